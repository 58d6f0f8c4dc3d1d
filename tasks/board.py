"""A training's steps for TensorBoard, while it goes on: `tensorboard --logdir .flywheel/tensorboard`."""

from pathlib import Path
from time import monotonic
from typing import Any

from models.learning.trainer import StepReport

SEEN_AFTER_S = 2.0
"""How old what TensorBoard sees may be."""


class Board:
    """Event files in a folder: `Board(home.tensorboard / "round-003-grpo")(step)`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._flushed_at = monotonic()

    def __call__(self, step: StepReport) -> None:
        """Write a step, over what an earlier try wrote of it and after it."""
        if self._writer is None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step.step, write_to_disk=True)
        numbers = {
            "loss": step.loss,
            "grad_norm": step.grad_norm,
            "learning_rate": step.learning_rate,
            "tokens_per_s": step.num_tokens / max(step.seconds, 1e-9),
            **step.measured,
        }
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step.step)
        if step.step == step.num_steps:
            self._writer.close()
        elif monotonic() - self._flushed_at > SEEN_AFTER_S:
            self._writer.flush()
            self._flushed_at = monotonic()
