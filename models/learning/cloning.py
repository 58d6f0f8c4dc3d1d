"""Behaviour cloning: raise the likelihood of the selected answers (expert iteration, ReST, STaR).

loss = sum_i sum_t -w_i log p(y_it | x_i, y_i<t) / sum_i |y_i|: a mean over the step's learnt
tokens, so that a long answer counts by its length. The weights w are 1, or the answers' rewards
(reward-weighted regression, Peters and Schaal 2007).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from models.learning.batches import Batch, Example
from models.learning.objective import Loss, num_learnt


@dataclass(frozen=True)
class Cloning:
    """Negative log-likelihood a learnt token, nats."""

    needs_old: bool = False
    has_entropy: bool = False

    def size(self, rows: Sequence[Example]) -> float:
        """Learnt tokens."""
        return num_learnt(rows)

    def __call__(self, logprobs: torch.Tensor, batch: Batch) -> Loss:
        """The sum over the batch's tokens."""
        return Loss(-(logprobs if batch.advantages is None else logprobs * batch.advantages).sum())
