"""What a line came to, as far as its rounds are closed: all that a report shows, read while another process writes."""

from dataclasses import dataclass
from typing import Any

from storage.history import find_run
from storage.home import Home
from storage.records import Checkpoint, Run
from storage.registry import Registry
from storage.warehouse import Warehouse

Row = dict[str, Any]
NUM_EXAMPLES = 6
"""Of right attempts, and as many of wrong ones."""
NUM_TREES, MAX_STEPS, MAX_DEPTH = 2, 200, 40
"""Trees whose first choice is right, and as many others; the most steps of each, and how deep."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """A line after its last closed round. The lists are the answers of storage/sql/report.

    `Overview(run=Run(…), rounds=[{"round": 0, "accuracy": 0.194, …}, …], lineage=[Checkpoint(…), …], …)`
    """

    run: Run
    """That of the last closed round."""
    rounds: list[Row]
    decisions: list[Row]
    stages: list[Row]
    filtered: list[Row]
    examples: list[Row]
    trees: list[Row]
    claims: list[Row]
    lineage: list[Checkpoint]
    """The champion, its parent, and so on to the initial policy."""


def overview(home: Home) -> Overview:
    """The line of a home; what is published meanwhile is of later rounds. Raises ValueError before the first is closed.

    The `champion` of the last of `rounds` is the line's, and each champion is a `candidate` of rounds or decisions.
    """
    warehouse = Warehouse(home)
    rounds = warehouse.named("report/rounds").to_dicts()
    if not rounds:
        raise ValueError(f"no round of {home.root} is closed yet: nothing to report. `flywheel run` turns the wheel.")
    last = rounds[-1]
    so_far = {"line": last["line"], "round": last["round"]}
    return Overview(
        run=find_run(warehouse, last["run_id"]),
        rounds=rounds,
        decisions=warehouse.named("report/decisions", **so_far).to_dicts(),
        stages=warehouse.named("report/stages", **so_far).to_dicts(),
        filtered=warehouse.named("report/filtered", **so_far).to_dicts(),
        examples=warehouse.named("report/examples", **so_far, count=NUM_EXAMPLES).to_dicts(),
        trees=warehouse.named(
            "report/trees", **so_far, count=NUM_TREES, max_steps=MAX_STEPS, max_depth=MAX_DEPTH
        ).to_dicts(),
        claims=warehouse.named("report/claims", **so_far).to_dicts(),
        lineage=Registry(home).lineage(last["champion"]),
    )
