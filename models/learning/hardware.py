"""What a training runs on, by accelerate: the model's device, and the precision of its products."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import PreTrainedModel

from models.learning.settings import TrainingSettings

REPLACED = ("forward", "_original_forward")
"""What accelerate puts in a model's place where it multiplies in half precision."""


@contextmanager
def accelerated(model: PreTrainedModel, settings: TrainingSettings) -> Iterator[Accelerator]:
    """What prepares the model and its optimizer; afterwards the model computes as before."""
    accelerator = Accelerator(
        cpu=model.device.type == "cpu",
        device_placement=False,  # the policy is where its settings say
        mixed_precision="bf16" if settings.precision == "bfloat16" else "no",
    )
    own = {name: model.__dict__[name] for name in REPLACED if name in model.__dict__}
    try:
        yield accelerator
    finally:
        for name in REPLACED:  # its own unwrap_model takes transformers' decorators off as well
            model.__dict__.pop(name, None)
        model.__dict__.update(own)
        accelerator.free_memory()
        AcceleratorState._reset_state(reset_partial_state=True)  # else no other device or precision in this process


def prepared(accelerator: Accelerator, model: PreTrainedModel) -> PreTrainedModel:
    """The model as its precision wants it; that several processes share it is seen to already."""
    ready: PreTrainedModel = accelerator.prepare_model(model, evaluation_mode=accelerator.num_processes > 1)
    return ready


def in_precision(model: PreTrainedModel, settings: TrainingSettings) -> AbstractContextManager[None]:
    """Products as a training with these settings computes them."""
    return torch.autocast(model.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16")
