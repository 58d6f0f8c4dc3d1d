"""LoRA: of each matrix a product of two thin ones learns in its place, and is added to it in the end, or kept apart.

W + (α / r) B A, with A random and B zero at first (Hu et al. 2021, arXiv 2106.09685); α is the same for every
rank, so that one learning rate suits them all, about ten times that of whole weights (Schulman et al. 2025,
"LoRA Without Regret").
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from models.learning.ranks import rank

if TYPE_CHECKING:
    from peft import LoraConfig

ALPHA = 32


@contextmanager
def adapted(model: PreTrainedModel, lora_rank: int, *, seed: int, keep: bool = False) -> Iterator[None]:
    """Adapters of this rank on every linear layer but the head, which alone are trained; rank 0: the weights are.

    In the end they are merged into the weights, or stay, to be saved apart and to learn on. Raises ValueError where
    the model has some of another rank.
    """
    if lora_rank == 0:
        yield
        return
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=lora_rank, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    if keep:
        _require(model, config, seed)
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        wrapped = get_peft_model(model, config)
    try:
        yield
    finally:
        if rank() == 0:  # of several processes the first alone has the whole model
            wrapped.merge_and_unload()
            model.requires_grad_(True)


def _require(model: PreTrainedModel, config: "LoraConfig", seed: int) -> None:
    """The model has such adapters, its own or new ones, and they alone learn."""
    for known in getattr(model, "peft_config", {}).values():
        if known.r != config.r:
            raise ValueError(
                f"the policy's adapters are of rank {known.r} and learning.lora_rank is {config.r}: set it to "
                f"{known.r}, or merge them, learning.keep_adapters=false"
            )
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.add_adapter(config)
