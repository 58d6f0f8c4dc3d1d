"""What an objective is: a sum over rows and what it is divided by, so that a step may be cut into any batches."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch

from models.learning.batches import Batch, Example


class Measured(NamedTuple):
    """What is to be known of a step beside its loss: the mean is total over number, of all its batches."""

    total: torch.Tensor
    number: torch.Tensor


class Loss(NamedTuple):
    """Of a batch."""

    total: torch.Tensor
    """What is minimised, summed over the rows: the trainer divides it by the step's size."""
    measured: Mapping[str, Measured] = MappingProxyType({})


class Objective(Protocol):
    """What is minimised: a pure function of log-probabilities."""

    @property
    def needs_old(self) -> bool:
        """Whether it asks for `Example.old`."""
        ...

    @property
    def has_entropy(self) -> bool:
        """Whether the policy's entropy is measured, which costs a little."""
        ...

    def size(self, rows: Sequence[Example]) -> float:
        """What the sum of a whole step is divided by."""
        ...

    def __call__(self, logprobs: torch.Tensor, batch: Batch) -> Loss:
        """The sum over a batch. `logprobs` (rows, places) of the targets, 0 where there is none."""
        ...


def num_learnt(rows: Sequence[Example]) -> float:
    """Tokens that are learnt."""
    return float(sum(len(row.completion_ids) for row in rows))
