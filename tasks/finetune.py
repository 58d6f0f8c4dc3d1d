"""Makes the round's candidate: trains on what its objective learns from."""

import json
import shutil
from dataclasses import asdict

from models.learning.draft import Draft
from models.learning.finetune import Trained, Watch, finetune
from models.learning.settings import LearningSettings
from models.learning.trainer import StepReport
from models.policy.pool import release_engines
from models.policy.settings import PolicySettings
from storage.records import Checkpoint, TrainingStep, make_id, make_seed
from tasks.lessons import find_lessons
from tasks.progress import Progress, report
from tasks.stage import log, stage, warn
from tasks.turn import Turn
from tasks.wording import minutes

KEPT_EVERY_S = 60.0
"""How often an unfinished training is kept, at least."""


@stage("finetune")
def train(turn: Turn, parent_id: str, selection_id: str, settings: LearningSettings, policy: PolicySettings) -> str:
    """Publish the candidate, unless it is there; gives its id. `settings` are those of the round.

    Raises ValueError where there is nothing to learn from, TrainingError, and StoppedError.
    """
    checkpoint_id = make_id("checkpoint", turn.line, turn.run_id, turn.round)
    if not turn.lake.has("checkpoints", checkpoint_id):
        release_engines()
        found = find_lessons(
            turn, settings, selection_id=selection_id, parent_id=parent_id, checkpoint_id=checkpoint_id
        )
        trained = finetune(
            turn.registry.open(parent_id),
            found.lessons,
            settings,
            seed=make_seed("finetune", turn.seed, turn.run_id, turn.round),
            device=policy.device,
            max_new_tokens=policy.max_new_tokens,
            watch=watch(turn, "finetune", checkpoint_id),
        )
        row = describe(
            turn,
            trained,
            checkpoint_id,
            parent_id=parent_id,
            selection_id=selection_id,
            objective=settings.objective,
            settings=asdict(settings),
            stale_share=found.stale_share,
        )
        save(turn, trained, row)
    return checkpoint_id


def watch(turn: Turn, stage_name: str, checkpoint_id: str) -> Watch:
    """Tells how far a training is, and keeps it; drafts of others, which nobody will finish, go."""
    drafts = turn.home.drafts
    for other in drafts.iterdir() if drafts.exists() else ():
        if other.name != checkpoint_id:
            shutil.rmtree(other, ignore_errors=True)

    def on_step(step: StepReport) -> None:
        done, total = step.tokens_done, step.tokens_in_all
        report(Progress(stage=stage_name, done=done, total=total, unit="tokens", loss=step.loss))

    return Watch(on_step=on_step, say=warn, draft=Draft(folder=drafts / checkpoint_id, every_s=KEPT_EVERY_S))


def save(turn: Turn, trained: Trained, row: Checkpoint) -> None:
    """Publish a trained policy and the steps of its training, which then needs no draft."""
    turn.lake.publish("training_steps", row.checkpoint_id, [step_row(row, step) for step in trained.report.steps])
    turn.registry.save(row, trained.save)
    shutil.rmtree(turn.home.drafts / row.checkpoint_id, ignore_errors=True)
    log(
        f"checkpoint {row.checkpoint_id}: {row.objective} on {row.num_examples:,} examples, {row.num_tokens:,} tokens "
        f"in {minutes(row.seconds)}, loss {row.loss:.3f}"
    )


def step_row(row: Checkpoint, step: StepReport) -> TrainingStep:
    """A step of a training as a row."""
    return TrainingStep(
        checkpoint_id=row.checkpoint_id,
        line=row.line,
        run_id=row.run_id,
        round=row.round,
        objective=row.objective,
        step=step.step,
        loss=step.loss,
        grad_norm=step.grad_norm,
        learning_rate=step.learning_rate,
        num_tokens=step.num_tokens,
        seconds=step.seconds,
        tokens_per_s=step.num_tokens / max(step.seconds, 1e-9),
        kl=step.measured.get("kl"),
        entropy=step.measured.get("entropy"),
        clip_share=step.measured.get("clip_share"),
        margin=step.measured.get("margin"),
        pairs_right=step.measured.get("pairs_right"),
    )


def describe(
    turn: Turn,
    trained: Trained,
    checkpoint_id: str,
    *,
    parent_id: str,
    selection_id: str,
    objective: str,
    settings: dict[str, object],
    stale_share: float | None,
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
        stale_share=stale_share,
        num_tokens=trained.report.num_tokens,
        loss=trained.report.loss,
        seconds=trained.report.seconds,
    )
