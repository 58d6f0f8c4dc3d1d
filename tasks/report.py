"""Closes a round: one row that sums up what it did."""

import json
from collections.abc import Mapping
from datetime import datetime

from storage.history import round_totals
from storage.publish import publish
from storage.records import Promotion, Round, Verdict, make_id
from tasks.stage import log, stage
from tasks.turn import Turn
from tasks.wording import minutes


@stage("report")
def close_round(
    turn: Turn, promotion: Promotion, stage_seconds: Mapping[str, float], started_at: datetime, seconds: float
) -> Round:
    """Publish the round, unless it is there, and the database that other tools read."""
    if not turn.lake.has("rounds", turn.key):
        row = Round(
            round_id=make_id("round", turn.line, turn.round),
            run_id=turn.run_id,
            line=turn.line,
            round=turn.round,
            candidate_id=promotion.candidate_id,
            champion_id=promotion.champion_id,
            promoted=promotion.verdict in (Verdict.PROMOTED, Verdict.INITIAL),
            reason=promotion.reason,
            stage_seconds=json.dumps({name: round(spent, 3) for name, spent in stage_seconds.items()}),
            seconds=seconds,
            started_at=started_at,
            **round_totals(turn.warehouse, line=turn.line, run_id=turn.run_id, round=turn.round),
        )
        turn.lake.publish("rounds", turn.key, [row])
    publish(turn.home)
    (row,) = turn.lake.read("rounds", turn.key)
    assert isinstance(row, Round)
    log(
        f"{row.num_problems:,} problems, {row.solved_share:.1%} of them solved, {row.num_trajectories:,} attempts; "
        f"{row.num_selected:,} train, {row.num_tokens:,} tokens in {minutes(row.seconds)}"
    )
    return row
