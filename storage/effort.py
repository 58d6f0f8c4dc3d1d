"""What search may spend on each problem of a round: more where more is needed, and what was saved before.

A problem that is solved at a rate p takes 1/p attempts for a right one; that, beside the mean of all
problems that were tried before this round, is its need. The problems that it shares a round with change nothing.
"""

from collections.abc import Sequence

from storage.warehouse import Warehouse

LEAST, MOST = 0.25, 4.0
"""A problem's share of the configured budget, at the least and at the most: a hopeless one does not take all."""
MOST_RAISED = 2.0
"""A round's budgets are raised to at most so many times the configured one."""


def budgets(needs: Sequence[float | None], *, configured: int, raised: float) -> list[int]:
    """A budget a problem, in attempts or tokens: its need, 1 for a new one (None), times `configured * raised`."""
    shares = [1.0 if need is None else min(MOST, max(LEAST, need)) for need in needs]
    return [max(1, round(share * configured * raised)) for share in shares]


def raise_by(warehouse: Warehouse, *, line: str, round: int, configured: int) -> float:
    """How many times the configured budgets, `configured` in all, a round may spend, for what the last one saved.

    What it saved is what its budgets, raised as they were, add up to, less what it spent.
    """
    (found,) = warehouse.named("savings", line=line, round=round).to_dicts()
    return min(MOST_RAISED, 1 + max(0, found["planned"] - found["spent"]) / configured) if found["planned"] else 1.0
