"""Policy gradients on sampled answers: REINFORCE with a leave-one-out baseline, GRPO, Dr. GRPO and DAPO.

They are one surrogate with four choices (advantages.py has the fifth, the baseline). For a token
with advantage A, ratio rho = p / p_old, p_old that of the policy before these answers changed it:
    clipped      -min(rho A, clamp(rho, 1 - low, 1 + high) A)     PPO's (arXiv 1707.06347)
    not clipped  -A log p                                          REINFORCE
times min(p_old / p_sampler, cap), which corrects for a sampler that is not the trainer, by its
arithmetic or its age (truncated importance sampling), plus kl_weight times the estimate of
KL(p || reference) that is never negative: exp(d) - d - 1, d = log reference - log p (Schulman's k3).
Summed over an answer's tokens and averaged:
    answer    over answers, each by its length      GRPO (arXiv 2402.03300)
    constant  over answers, all by one length       Dr. GRPO (arXiv 2503.20783)
    token     over all tokens of the step           DAPO (arXiv 2503.14476)
    sum       over answers, as one action each      RLOO (arXiv 2402.14740)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from models.learning.batches import Batch, Example
from models.learning.objective import Loss, Measured, num_learnt

Mean = Literal["answer", "constant", "token", "sum"]


@dataclass(frozen=True)
class Gradient:
    """A policy gradient: `Gradient(mean="token", clip_low=0.2, clip_high=0.28, …)`."""

    mean: Mean
    clip_low: float
    clip_high: float
    """0: not clipped."""
    kl_weight: float
    importance_cap: float
    longest: int
    """Tokens of the longest answer that may be: what `constant` divides by."""
    needs_old: bool = True
    has_entropy: bool = True

    def size(self, rows: Sequence[Example]) -> float:
        """What the mean is over."""
        if self.mean == "token":
            return num_learnt(rows)
        return float(len(rows)) * (self.longest if self.mean == "constant" else 1)

    def __call__(self, logprobs: torch.Tensor, batch: Batch) -> Loss:
        """The sum over the batch's tokens."""
        assert batch.advantages is not None and batch.old is not None, "answers are learnt with their advantages"
        mask, advantages, old = batch.mask, batch.advantages, batch.old
        ratio = (logprobs - old).exp()
        if self.clip_high:
            clamped = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
            losses = -torch.minimum(ratio * advantages, clamped * advantages)
            is_clipped = clamped * advantages < ratio * advantages
        else:
            losses, is_clipped = -advantages * logprobs, torch.zeros_like(mask)
        if batch.sampled is not None:
            losses = losses * (old - batch.sampled).exp().clamp(max=self.importance_cap)
        if self.kl_weight:
            reference = old if batch.reference is None else batch.reference
            losses = losses + self.kl_weight * kl_estimate(logprobs, reference)
        per_row = (losses * mask).sum(-1)
        if self.mean == "answer":
            per_row = per_row / mask.sum(-1)
        number = mask.sum()
        return Loss(
            per_row.sum(),
            {
                "kl": Measured((kl_estimate(old, logprobs.detach()) * mask).sum(), number),
                "clip_share": Measured((is_clipped * mask).sum(), number),
            },
        )


def kl_estimate(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Of KL(p || reference), a token: unbiased on samples of p, and never negative."""
    difference = reference - logprobs
    return difference.exp() - difference - 1
