"""What objectives other than cloning learn from: attempts, right and wrong, and pairs of them. SQL makes both."""

from dataclasses import asdict, dataclass

import polars as pl

from storage.warehouse import Warehouse

ALIKE = 0.1
"""Two texts are nearly equal where they differ in less than this share of their characters."""
COMPARED = 2000
"""Of their first so many characters: the time goes by the square of their length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """Which attempts: of a line's newest `window` rounds up to `round`, or those that a selection picked."""

    line: str
    round: int
    window: int
    longest: int
    """Tokens that an answer may have: what is shorter and did not end was cut off by a search's budget."""
    selection_id: str = ""


def attempts(warehouse: Warehouse, where: Where) -> pl.DataFrame:
    """Attempts at problems at which some were right and some wrong.

    Columns trajectory_id, attempts_at (equal for those at one problem in one search), prompt, token_ids, logprobs,
    temperature, solved, step_values and lengths (of its steps in a tree, else null) and checkpoint_id.
    """
    return warehouse.named("attempts", **asdict(where))


def mixed_problems(warehouse: Warehouse, where: Where) -> list[str]:
    """Ids of the problems at which some attempts were right and some wrong, sorted."""
    return warehouse.named("mixed_problems", **asdict(where))["problem_id"].to_list()


def pairs(warehouse: Warehouse, where: Where, *, margin: float, max_pairs: int) -> pl.DataFrame:
    """Pairs of steps after one prefix, and of whole answers.

    Columns kind (steps or answers), problem_id, chosen_id and rejected_id (trajectories), prefix, chosen and rejected
    (texts), prefix_tokens, chosen_tokens, rejected_tokens, margin, checkpoint_ids and prompt.
    """
    return warehouse.named("pairs", **asdict(where), margin=margin, max_pairs=max_pairs, alike=ALIKE, compared=COMPARED)
