"""Fixes what a retrain trains on: the trajectories that its query names now, one row each."""

from storage.picks import pick
from storage.records import Pick, make_id
from tasks.stage import log, stage
from tasks.turn import Turn


@stage("pick")
def choose(turn: Turn, query: str, objective: str) -> str:
    """Publish the picks, unless they are there; gives the selection's id. Raises QueryError for what may not train."""
    selection_id = make_id("picks", turn.run_id)
    if not turn.lake.has("picks", selection_id):
        picked = pick(turn.warehouse, line=turn.line, query=query, objective=objective)
        rows = [
            Pick(selection_id=selection_id, trajectory_id=one, run_id=turn.run_id, line=turn.line, weight=weight)
            for one, weight in picked
        ]
        turn.lake.publish("picks", selection_id, rows)
        log(f"{len(rows):,} trajectories picked")
    return selection_id
