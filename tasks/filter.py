"""Decides on every trajectory: kept for training, or dropped, and why. The rules are SQL, in storage/sql/filter."""

from storage.selection import decide, selection_id
from storage.settings import FilterSettings
from tasks.stage import log, stage
from tasks.turn import Turn


@stage("filter")
def select(turn: Turn, settings: FilterSettings) -> str:
    """Publish the round's new and changed decisions; gives the selection's id."""
    if not turn.lake.has("selections", turn.part):
        decisions = decide(turn.warehouse, line=turn.line, run_id=turn.run_id, round=turn.round, settings=settings)
        turn.lake.publish("selections", turn.part, decisions)
        log(f"{len(decisions):,} new or changed decisions, {sum(row.kept for row in decisions):,} of them to keep")
    return selection_id(turn.line, turn.run_id, turn.round, settings.rule)
