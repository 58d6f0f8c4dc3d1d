"""What search may spend on each problem of a round: more where more is needed, and what the last round saved.

A problem that is solved at a rate p takes 1/p attempts for a right one; its share of the round's
budget is in that proportion. Nothing here looks at the problems beside it, but for their mean.
"""

from collections.abc import Sequence
from statistics import fmean

from storage.warehouse import Warehouse

LEAST, MOST = 0.25, 4.0
"""A problem's share beside the mean, at the least and at the most: a hopeless one does not take all."""
MOST_RAISED = 2.0
"""A round's budget is raised to at most so many times the configured one."""


def budgets(rates: Sequence[float | None], *, configured: int, raised: float) -> list[int]:
    """A budget a problem, in attempts or tokens, of `configured * raised` on average.

    `rates` are the shares of attempts that solve each problem; None, for a new one, is the mean's share.
    """
    needs = [1 / rate for rate in rates if rate is not None]
    mean = fmean(needs) if needs else 1.0
    shares = [1.0 if rate is None else min(MOST, max(LEAST, 1 / rate / mean)) for rate in rates]
    scale = configured * raised / fmean(shares) if shares else 0.0
    return [max(1, round(share * scale)) for share in shares]


def raise_by(warehouse: Warehouse, *, line: str, round: int) -> float:
    """How many times the configured budget a round may spend, for what the last one with budgets left over."""
    (found,) = warehouse.named("savings", line=line, round=round).to_dicts()
    return min(MOST_RAISED, max(1.0, found["planned"] / found["spent"])) if found["spent"] else 1.0
