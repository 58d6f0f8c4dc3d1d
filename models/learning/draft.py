"""A training that is not done, on disk, so that one that is broken off goes on to the same weights. No pickle."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

FILE = "unfinished.safetensors"
MOST_OFTEN = 20
"""Keeping takes at most one part in so many of the time."""


class TrainingState(NamedTuple):
    """All that the rest of a training depends on, and what it did so far."""

    tensors: dict[str, torch.Tensor]
    """Weights, what the optimizer remembers, and the state of torch's noise."""
    done: list[dict[str, Any]]
    """Reports of the steps that are done."""


@dataclass(kw_only=True)
class Draft:
    """Where a training is kept: `Draft(folder=home.drafts / checkpoint_id, origin=parent_id, every_s=60)`."""

    folder: Path
    origin: str = ""
    """Names the weights that it starts from."""
    every_s: float
    """At least; where keeping takes long it is done more seldom."""
    _due_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._due_at = monotonic() + self.every_s

    def is_due(self) -> bool:
        """Whether it was kept too long ago."""
        return monotonic() >= self._due_at

    def keep(self, state: TrainingState, fingerprint: str, say: Callable[[str], None]) -> None:
        """Write it whole, in the place of what was kept before; where that cannot be done, say so, and no more."""
        started = monotonic()
        aside = self.folder / f"{FILE}.{os.getpid()}"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            save_file(
                state.tensors,
                aside,
                {"fingerprint": fingerprint, "origin": self.origin, "done": json.dumps(state.done)},
            )
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            aside.replace(self.folder / FILE)
        except (SafetensorError, OSError) as error:  # the training matters more
            say(f"cannot keep the unfinished training in {self.folder}: {error}")
            with suppress(OSError):
                aside.unlink()
        self._due_at = monotonic() + max(self.every_s, MOST_OFTEN * (monotonic() - started))

    def load(self, fingerprint: str, say: Callable[[str], None]) -> TrainingState | None:
        """What was kept of the same training; None where nothing was, or it cannot be read, which is said."""
        path = self.folder / FILE
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as kept:
                said = kept.metadata()
                if (said["fingerprint"], said["origin"]) != (fingerprint, self.origin):
                    say(f"the unfinished training in {path} is another, of other lessons or settings: it starts over")
                    return None
                tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118
                return TrainingState(tensors, json.loads(said["done"]))
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            say(f"cannot go on from the unfinished training in {path} ({error}): it starts over")
            return None
