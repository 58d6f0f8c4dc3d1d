"""What an attempt was worth beside the others at the same problem, and each of its tokens.

r_i are the rewards of a problem's n attempts:
    leave_one_out   r_i - mean of the others                 RLOO (arXiv 2402.14740)
    standardised    (r_i - mean) / (std + 1e-4)              GRPO (arXiv 2402.03300)
    centred         r_i - mean                               Dr. GRPO (arXiv 2503.20783)
"""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, stdev
from typing import Literal

Baseline = Literal["leave_one_out", "standardised", "centred"]
EPSILON = 1e-4


def advantages(rewards: Sequence[float], baseline: Baseline) -> list[float]:
    """Of each attempt at a problem; all 0 where there is but one."""
    if len(rewards) < 2:
        return [0.0] * len(rewards)
    mean = fmean(rewards)
    if baseline == "leave_one_out":
        return [(reward - mean) * len(rewards) / (len(rewards) - 1) for reward in rewards]
    scale = stdev(rewards) + EPSILON if baseline == "standardised" else 1.0
    return [(reward - mean) / scale for reward in rewards]


def overlong_penalty(num_tokens: int, longest: int, margin: int) -> float:
    """DAPO's soft punishment (arXiv 2503.14476): 0 up to longest - margin, falling to -1/2 at the longest.

    To -1 in the paper, whose outcomes are -1 and 1 where ours are 0 and 1.
    """
    return 0.0 if margin == 0 else -0.5 * min(1.0, max(0.0, (num_tokens - (longest - margin)) / margin))


def step_advantages(values: Sequence[float], lengths: Sequence[int]) -> tuple[float, ...]:
    """Each step's credit in a tree, for each of its tokens: how far it moved the share of right ends.

    `values` of the root and of each node on the path, the last being the outcome; `lengths` tokens of each step.
    V(s') - V(s) is the advantage under values by Monte Carlo (VinePPO, arXiv 2410.01679), and shaping by a potential.
    """
    assert len(values) == len(lengths) + 1, (len(values), len(lengths))
    credits = [after - before for before, after in pairwise(values)]
    return tuple(credit for credit, length in zip(credits, lengths, strict=True) for _ in range(length))
