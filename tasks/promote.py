"""The gate: the candidate takes over only on a paired test, and the decision is a row with its evidence."""

from models.evaluation.gate import GateSettings, McNemarGate
from storage.records import Evaluation, Promotion, Verdict
from storage.registry import LostRaceError
from tasks.stage import log, stage
from tasks.turn import Turn

GATE = "gate"
"""Who decides, where it is no person."""


@stage("promote")
def promote(turn: Turn, candidate: Evaluation, champion: Evaluation, settings: GateSettings) -> Promotion:
    """Decide between two evaluations of the same problems. Raises LostRaceError when another decision came between."""
    for made in turn.registry.promotions(turn.line):  # made before a stop; a rollback may have come since
        if (made.run_id, made.round, made.decided_by) == (turn.run_id, turn.round, GATE):
            return made
    latest = turn.registry.latest(turn.line)
    if latest and latest.champion_id != champion.checkpoint_id:
        raise LostRaceError(latest)
    decision = McNemarGate(settings).decide(solved(turn, candidate), solved(turn, champion))
    made = turn.registry.promote(
        Promotion(
            line=turn.line,
            run_id=turn.run_id,
            round=turn.round,
            candidate_id=candidate.checkpoint_id,
            verdict=Verdict.PROMOTED if decision.promoted else Verdict.REFUSED,
            reason=decision.reason,
            num_problems=decision.num_problems,
            wins=decision.wins,
            losses=decision.losses,
            p_value=decision.p_value,
            alpha=decision.alpha,
            decided_by=GATE,
        ),
        latest,
    )
    log(f"{made.verdict}: {made.reason}")
    return made


@stage("promote")
def crown(turn: Turn, checkpoint_id: str) -> Promotion:
    """Make the initial policy the first champion, unless the line has one."""
    if latest := turn.registry.latest(turn.line):
        return latest
    made = turn.registry.promote(
        Promotion(
            line=turn.line,
            run_id=turn.run_id,
            round=turn.round,
            candidate_id=checkpoint_id,
            verdict=Verdict.INITIAL,
            reason="the initial policy",
            decided_by=GATE,
        ),
        None,
    )
    log(f"{made.verdict}: {made.reason}")
    return made


def solved(turn: Turn, evaluation: Evaluation) -> dict[str, bool]:
    """Problem to outcome of the answer that counts."""
    rows = turn.lake.read("outcomes", evaluation.evaluation_id)
    return {row.problem_id: row.solved for row in rows if row.sample == 0}
