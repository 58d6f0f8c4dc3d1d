"""LoRA: of each matrix a product of two thin ones learns in its place, and is added to it in the end.

W + (α / r) B A, with A random and B zero at first (Hu et al. 2021, arXiv 2106.09685); α is the same for every
rank, so that one learning rate suits them all, about ten times that of whole weights (Schulman et al. 2025,
"LoRA Without Regret").
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from models.learning.ranks import rank

ALPHA = 32


@contextmanager
def adapted(model: PreTrainedModel, lora_rank: int, *, seed: int) -> Iterator[None]:
    """Adapters of this rank on every linear layer but the head, which alone are trained; rank 0: the weights are."""
    if lora_rank == 0:
        yield
        return
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LoraConfig(r=lora_rank, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
        wrapped = get_peft_model(model, config)
    try:
        yield
    finally:
        if rank() == 0:  # of several processes the first alone has the whole model
            wrapped.merge_and_unload()
            model.requires_grad_(True)
