"""What trains: a decision with its reason on every trajectory, and the training set they leave.

The rules are SQL, one file each in sql/filter/; a new rule is a new file with the
same parameters. This module only says what a rule may be told and keeps its answer.
"""

import polars as pl

from storage.records import Selection, make_id
from storage.settings import FilterSettings
from storage.warehouse import Warehouse


def selection_id(line: str, run_id: str, round: int, rule: str) -> str:
    """Names the selection of a run's round: `Checkpoint.selection_id`."""
    return make_id("selection", line, run_id, round, rule)


def decide(warehouse: Warehouse, *, line: str, run_id: str, round: int, settings: FilterSettings) -> list[Selection]:
    """The decisions of a run's round that are new or changed, to be published.

    A function of the trajectories made up to this round and of the decisions before it, those of
    runs that were left in it included, but not its own: asking again gives the same.
    """
    identity = selection_id(line, run_id, round, settings.rule)
    decisions = warehouse.named(
        f"filter/{settings.rule}",
        line=line,
        round=round,
        selection_id=identity,
        max_per_problem=settings.max_per_problem,
        balance=settings.balance,
    )
    return [
        Selection(selection_id=identity, line=line, round=round, rule=settings.rule, **decision)
        for decision in decisions.iter_rows(named=True)
    ]


def training_set(warehouse: Warehouse, *, line: str, round: int, fade: float = 1.0) -> pl.DataFrame:
    """What the line trains on after the selection of a round, all rounds of it.

    Columns trajectory_id, problem_id, prompt, text, token_ids, round (that made it),
    behaviours, share = fade ** (rounds since a policy last wrote that text), weight (1) and checkpoint_id.
    """
    if not 0 < fade <= 1:
        raise ValueError(f"fade is {fade}; expected above 0, and at most 1, where all rounds share alike.")
    return warehouse.named("training_set", line=line, round=round, fade=fade)
