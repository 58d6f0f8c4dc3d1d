"""Which problems a round searches: known ones by what they still teach, and new ones.

A problem teaches by E[p(1 − p)], p its success rate under Beta(1 + solved, 1 + failed):
most at even odds, little when always or never solved. sql/teaching.sql has the formula.
Drawing new problems is the source's; this module also finds known ones in the lake.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from storage.lake import to_records
from storage.records import Problem, Split
from storage.settings import CurriculumSettings
from storage.warehouse import Warehouse


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """What to search: `Curriculum(known=["9f…", …], needs=[0.4, …], num_new=1500)`."""

    known: list[str]
    """Ids of train problems in the lake, in the order drawn."""
    needs: list[float | None]
    """Attempts that a right answer to each takes, beside the mean of all known ones; None where none was made."""
    num_new: int
    """Problems to draw from the source."""


def choose_problems(
    warehouse: Warehouse, *, line: str, round: int, seed: int, settings: CurriculumSettings, num_left: int | None = None
) -> Curriculum:
    """The known problems that a round searches again, and how many new ones it needs; `num_left` is all there are.

    A function of seed, settings and history: of the attempts before this round and
    of the train problems in the lake, so ask before publishing the round's new ones.
    """
    num_new = math.ceil(settings.new_share * settings.problems)
    if num_left is not None:
        num_new = min(num_new, num_left)
    drawn = warehouse.named(
        "teaching", line=line, round=round, seed=seed, fade=settings.fade, count=settings.problems - num_new
    )
    known = drawn["problem_id"].to_list()
    return Curriculum(known=known, needs=drawn["need"].to_list(), num_new=settings.problems - len(known))


def problems_by_id(warehouse: Warehouse, ids: Sequence[str]) -> list[Problem]:
    """The problems of these ids in their order; ValueError names one that is not in the lake."""
    found = {problem.problem_id: problem for problem in _problems(warehouse, "problems_by_id", ids=list(ids))}
    missing = [problem_id for problem_id in ids if problem_id not in found]
    if missing:
        raise ValueError(f"{len(missing)} of {len(ids)} problems are not in the lake, the first being {missing[0]!r}.")
    return [found[problem_id] for problem_id in ids]


def problems_of(warehouse: Warehouse, split: Split) -> list[Problem]:
    """The problems of a split in the order of the source's stream."""
    return _problems(warehouse, "problems_of", split=str(split))


def stream_position(warehouse: Warehouse) -> int | None:
    """The last position of the source's stream that was drawn for training; None before the first."""
    position: int | None = warehouse.query("SELECT max(position) AS p FROM problems WHERE split = 'train'")["p"].item()
    return position


def _problems(warehouse: Warehouse, query: str, **parameters: object) -> list[Problem]:
    return to_records("problems", warehouse.named(query, **parameters))
