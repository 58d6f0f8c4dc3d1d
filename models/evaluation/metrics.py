"""What is true of a policy: accuracy with its interval, and pass@k.

Sources: Wilson 1927 (https://doi.org/10.1080/01621459.1927.10502953) for the interval;
Chen et al. 2021 (https://arxiv.org/abs/2107.03374, section 2.1) for the estimator of pass@k.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

Z = NormalDist().inv_cdf(0.975)
"""Standard deviations to each side of 95 % of a normal distribution."""


class Interval(NamedTuple):
    """Both ends of a 95 % interval of a share: `Interval(low=0.635, high=0.677)`."""

    low: float
    high: float


def wilson_interval(num_solved: int, num_problems: int) -> Interval:
    """The 95 % Wilson score interval of num_solved / num_problems. Raises ValueError on no problems."""
    check_counts(num_solved, num_problems)
    n = num_problems
    share = num_solved / n
    shrink = 1 / (1 + Z**2 / n)
    centre = shrink * (share + Z**2 / (2 * n))
    half = shrink * Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    low = centre - half if num_solved else 0.0  # exactly, where rounding would miss it
    high = centre + half if num_solved < num_problems else 1.0
    return Interval(low, high)


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that one of k samples is correct, unbiased, from c correct of n: 1 - C(n-c, k) / C(n, k).

    Raises ValueError unless 1 <= k <= n and 0 <= c <= n.
    """
    check_counts(c, n)
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {n} samples; k must be 1 to {n}: draw more samples or lower k")
    return 1 - math.prod(1 - k / i for i in range(n - c + 1, n + 1))


def mean_pass_at_k(tries: Sequence[tuple[int, int]], k: int) -> float:
    """pass@k averaged over problems, each a pair (n, c). Raises ValueError as `pass_at_k`, and on no problems."""
    if not tries:
        raise ValueError(f"pass@{k} of no problems; expected at least one: evaluate a split that has problems")
    return math.fsum(pass_at_k(n, c, k) for n, c in tries) / len(tries)


def check_counts(num_solved: int, num_tried: int) -> None:
    """Raise ValueError unless `num_solved` of `num_tried` is a share of something."""
    if num_tried < 1 or not 0 <= num_solved <= num_tried:
        raise ValueError(
            f"{num_solved} solved of {num_tried}; expected 0 <= solved <= tried and at least one tried: count again"
        )
