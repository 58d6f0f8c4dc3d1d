"""Direct preference optimization on pairs, with the likelihood of the chosen answer beside it.

DPO (Rafailov et al. 2023, arXiv 2305.18290), r = log p - log p_reference summed over an answer:
    -log sigmoid(beta (r_chosen - r_rejected))
and iterative RPO's term (Pang et al. 2024, arXiv 2404.19733), without which the chosen answer's
likelihood falls as well, only less than the rejected one's:
    + lambda * -log p(chosen) / |chosen|
a mean over pairs. The reference is the policy that the training starts from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from models.learning.batches import Batch, Example
from models.learning.objective import Loss, Measured


@dataclass(frozen=True)
class Preference:
    """Rows are pairs: chosen, rejected, chosen, rejected, …"""

    beta: float
    nll_weight: float
    """lambda"""
    needs_old: bool = True
    has_entropy: bool = False

    def size(self, rows: Sequence[Example]) -> float:
        """Pairs."""
        return len(rows) / 2

    def __call__(self, logprobs: torch.Tensor, batch: Batch) -> Loss:
        """The sum over the batch's pairs."""
        assert batch.old is not None, "pairs are learnt with the log-probabilities of the reference"
        margin = preference_margin(logprobs.sum(-1), batch.old.sum(-1))
        mask = batch.mask[::2]
        likelihood = (logprobs[::2] * mask).sum(-1) / mask.sum(-1)
        loss = -F.logsigmoid(self.beta * margin) - self.nll_weight * likelihood
        number = torch.tensor(float(len(margin)))
        return Loss(
            loss.sum(),
            {
                "margin": Measured(self.beta * margin.detach().sum(), number),
                "pairs_right": Measured((margin.detach() > 0).float().sum(), number),
            },
        )


def preference_margin(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """r_chosen - r_rejected. (2 pairs,), chosen and rejected in turn, twice -> (pairs,)."""
    rewards = logprobs - reference
    return rewards[::2] - rewards[1::2]
