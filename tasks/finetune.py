"""Makes the round's candidate: trains on what the filter kept, of all rounds."""

import json
from dataclasses import asdict

from models.learning.examples import Solution
from models.learning.finetune import Trained, finetune
from models.learning.settings import LearningSettings
from models.policy.pool import release_engines
from storage.picks import picked_set
from storage.records import Checkpoint, make_id, make_seed
from storage.selection import training_set
from tasks.progress import Progress, report
from tasks.stage import log, stage
from tasks.turn import Turn
from tasks.wording import minutes


@stage("finetune")
def train(turn: Turn, parent_id: str, selection_id: str, settings: LearningSettings, device: str) -> str:
    """Publish the candidate, unless it is there; gives its id.

    Raises ValueError where nothing was kept, NonFiniteLossError, and StoppedError.
    """
    checkpoint_id = make_id("checkpoint", turn.line, turn.run_id, turn.round)
    if not turn.lake.has("checkpoints", checkpoint_id):
        release_engines()
        trained = finetune(
            turn.registry.open(parent_id),
            read_solutions(turn, selection_id, settings),
            settings,
            seed=make_seed("finetune", turn.seed, turn.run_id, turn.round),
            device=device,
            on_step=report_step,
        )
        row = describe(turn, trained, checkpoint_id, parent_id, selection_id, settings.objective, asdict(settings))
        turn.registry.save(row, trained.save)
        log_checkpoint(row)
    return checkpoint_id


def read_solutions(turn: Turn, selection_id: str, settings: LearningSettings) -> list[Solution]:
    """What a retrain picked, or else what is kept, newer rounds with a greater share. Raises ValueError on nothing."""
    if turn.lake.has("picks", selection_id):
        rows = picked_set(turn.warehouse, selection_id)
    else:
        rows = training_set(turn.warehouse, line=turn.line, round=turn.round, fade=settings.fade)
    if rows.is_empty():
        raise ValueError(
            f'nothing was kept for training in {turn.label}: `flywheel sql "SELECT reason, count(*) FROM '
            f'current_selections GROUP BY ALL"` says why. Search harder (search.samples), or take easier problems.'
        )
    columns = rows.select("trajectory_id", "prompt", "token_ids", "share")
    return [Solution(*row) for row in columns.iter_rows()]


def report_step(done: int, total: int, loss: float) -> None:
    """Tell how far the training is; stops it where that was asked."""
    report(Progress(stage="finetune", done=done, total=total, unit="tokens", loss=loss))


def describe(
    turn: Turn,
    trained: Trained,
    checkpoint_id: str,
    parent_id: str,
    selection_id: str,
    objective: str,
    settings: dict[str, object],
) -> Checkpoint:
    """The row of a trained policy; the registry adds folder and digest."""
    return Checkpoint(
        checkpoint_id=checkpoint_id,
        line=turn.line,
        run_id=turn.run_id,
        round=turn.round,
        parent_id=parent_id,
        selection_id=selection_id,
        objective=objective,
        settings=json.dumps(settings),
        num_examples=trained.num_examples,
        num_tokens=trained.report.num_tokens,
        loss=trained.report.loss,
        seconds=trained.report.seconds,
    )


def log_checkpoint(row: Checkpoint) -> None:
    """What a training came to."""
    log(
        f"checkpoint {row.checkpoint_id}: {row.num_examples:,} examples, {row.num_tokens:,} tokens "
        f"in {minutes(row.seconds)}, loss {row.loss:.3f}"
    )
