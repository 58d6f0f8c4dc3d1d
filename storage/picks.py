"""What a retrain trains on: the trajectories that a person's SQL names, where all of them may train.

A selection is the name of a query, ours in sql/retrain/ or a person's in the home's
queries/, or the SQL itself. It goes through `Warehouse.ask`, so it reads and does nothing else.
"""

import math
import re
from difflib import get_close_matches
from pathlib import Path

import polars as pl

from storage.home import Home
from storage.warehouse import SQL_FOLDER, QueryError, Warehouse

NAME = re.compile(r"[\w-]+")
ID = "trajectory_id"
WEIGHT = "weight"
CLONING = "cloning"
"""The objective that learns from right answers alone."""
FAULTS = {
    "num_unknown": "{n:,} of them are no trajectories",
    "num_of_other_lines": "{n:,} are of another line",
    "num_wrong": "{n:,} are not solved, which cloning would imitate: add WHERE solved",
    "num_reserved": "{n:,} answer problems that are reserved for evaluation: join problems, WHERE split = 'train'",
}
"""What can be the matter with trajectories, by column of picks.sql."""


def selections(home: Home) -> dict[str, Path]:
    """The queries that can be named, a person's own before ours of the same name."""
    folders = (SQL_FOLDER / "retrain", home.queries)
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.sql"))}


def read_selection(home: Home, selection: str) -> str:
    """The SQL of a selection. Raises QueryError for a name that nothing has."""
    if not NAME.fullmatch(selection.strip()):
        return selection
    known = selections(home)
    if (name := selection.strip()) not in known:
        near = get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise QueryError(
            f"there is no selection {name!r}; expected {', '.join(known)}, or a SELECT that gives {ID}.{hint}"
        )
    return known[name].read_text(encoding="utf-8")


def is_instead(home: Home, selection: str) -> bool:
    """Whether it names a query of a person's own that stands in the place of one of ours."""
    known = selections(home).get(selection.strip())
    return known is not None and known.parent == home.queries and (SQL_FOLDER / "retrain" / known.name).exists()


def pick(warehouse: Warehouse, *, line: str, query: str, objective: str = CLONING) -> list[tuple[str, float]]:
    """The ids of the trajectories that a query names, sorted, each with its weight: that of a column weight, else 1.

    Raises QueryError where it has no column trajectory_id, names nothing, or names what may not train: wrong answers
    are among that, but objectives other than cloning need them as well.
    """
    answer = warehouse.ask(query)
    if ID not in answer.columns:
        found = ", ".join(answer.columns)
        raise QueryError(f"the selection gives {found}; expected a column {ID}: SELECT {ID} FROM …")
    weights = dict(zip(map(str, answer[ID]), weights_of(answer), strict=True))
    ids = sorted(weights.keys() - {"None"})
    if not ids:
        raise QueryError("the selection names no trajectory; `flywheel sql` shows what it gives: widen its WHERE.")
    (counts,) = warehouse.named("picks", ids=ids, line=line).to_dicts()
    if objective != CLONING:
        require_both(answer, counts, objective)
        counts["num_wrong"] = 0
    faults = [text.format(n=counts[column]) for column, text in FAULTS.items() if counts[column]]
    if faults:
        raise QueryError(f"the selection names {len(ids):,} trajectories that may not all train: {'; '.join(faults)}.")
    return [(one, weights[one]) for one in ids]


def require_both(answer: pl.DataFrame, counts: dict[str, int], objective: str) -> None:
    """Raises QueryError for a selection that an objective other than cloning cannot learn from."""
    if WEIGHT in answer.columns:
        raise QueryError(f"a column {WEIGHT} is for cloning, and {objective} would not look at it: leave it out.")
    if counts["num_wrong"] in (0, counts["num_named"]):
        only = "wrong" if counts["num_wrong"] else "right"
        raise QueryError(
            f"the selection names {only} answers alone, and {objective} learns from right and wrong ones to the same "
            "problem: attempts names all of the last round."
        )


def weights_of(answer: pl.DataFrame) -> list[float]:
    """The column weight, where there is one. Raises QueryError for what is no weight."""
    if WEIGHT not in answer.columns:
        return [1.0] * len(answer)
    try:
        weights = answer[WEIGHT].cast(pl.Float64).to_list()
    except pl.exceptions.PolarsError as error:
        raise QueryError(f"the column {WEIGHT} holds {answer[WEIGHT].dtype}; expected numbers.") from error
    if wrong := [weight for weight in weights if weight is None or not 0 < weight < math.inf]:
        raise QueryError(f"the column {WEIGHT} holds {wrong[0]}; expected numbers over 0.")
    return weights


def picked_set(warehouse: Warehouse, selection_id: str) -> pl.DataFrame:
    """What was picked, with the columns of `training_set`, all in equal shares."""
    return warehouse.named("picked_set", selection_id=selection_id)
