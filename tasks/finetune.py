"""Makes the round's candidate: trains on what its objective learns from."""

import json
import shutil
from dataclasses import asdict
from functools import partial

from models.learning.draft import Draft
from models.learning.finetune import Trained, Watch, finetune, finetune_on_policy
from models.learning.launch import finetune_together
from models.learning.settings import LearningSettings, TrainingSettings
from models.learning.trainer import StepReport
from models.policy.load import gpus_of
from models.policy.pool import release_engines
from models.policy.settings import PolicySettings
from models.search.settings import SearchSettings
from storage.history import unfinished_runs
from storage.records import Checkpoint, TrainingStep, make_id, make_seed
from tasks.board import Board
from tasks.devices import held
from tasks.lessons import find_lessons, where
from tasks.progress import Progress, check_stop, report
from tasks.rollouts import Rollouts
from tasks.stage import log, stage, warn
from tasks.turn import Turn
from tasks.wording import minutes

KEPT_EVERY_S = 60.0
"""How often an unfinished training is kept, at least."""


@stage("finetune")
def train(
    turn: Turn,
    parent_id: str,
    selection_id: str,
    settings: LearningSettings,
    policy: PolicySettings,
    search: SearchSettings,
) -> str:
    """Publish the candidate, unless it is there; gives its id. `settings` are those of the round.

    Raises ValueError where there is nothing to learn from, TrainingError, and StoppedError.
    """
    checkpoint_id = make_id("checkpoint", turn.line, turn.run_id, turn.round)
    if not turn.lake.has("checkpoints", checkpoint_id):
        release_engines()
        with held(turn.home, gpus_of(policy.trains_on, settings.processes), warn):
            trained, stale_share = learn(turn, parent_id, selection_id, checkpoint_id, settings, policy, search)
            row = describe(
                turn,
                trained,
                checkpoint_id,
                parent_id=parent_id,
                selection_id=selection_id,
                objective=settings.objective,
                settings=asdict(settings),
                stale_share=stale_share,
            )
            save(turn, trained, row)
            del trained  # before the GPU that it is on is let go
        release_engines()
    return checkpoint_id


def learn(
    turn: Turn,
    parent_id: str,
    selection_id: str,
    checkpoint_id: str,
    settings: LearningSettings,
    policy: PolicySettings,
    search: SearchSettings,
) -> tuple[Trained, float]:
    """The trained policy, and the share of what it learnt from that another policy than its parent wrote."""
    parent, watching = turn.registry.open(parent_id), watch(turn, "finetune", settings, checkpoint_id, parent_id)
    seed = make_seed("finetune", turn.seed, turn.run_id, turn.round)
    if settings.is_on_policy:
        trained = finetune_on_policy(
            parent,
            Rollouts.of(
                turn, checkpoint_id, parent_id, where(turn, settings, policy, selection_id), settings, search, policy
            ),
            settings,
            seed=seed,
            device=policy.trains_on,
            max_new_tokens=policy.max_new_tokens,
            max_rows=policy.max_rows,
            watch=watching,
        )
        return trained, 0.0
    found = find_lessons(
        turn, settings, policy, selection_id=selection_id, parent_id=parent_id, checkpoint_id=checkpoint_id
    )
    folder = turn.home.tmp / f"together-{checkpoint_id}"
    by = partial(finetune_together, folder=folder) if settings.processes > 1 else finetune
    try:
        trained = by(
            parent,
            found.lessons,
            settings,
            seed=seed,
            device=policy.trains_on,
            max_new_tokens=policy.max_new_tokens,
            watch=watching,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return trained, found.stale_share


def watch(turn: Turn, stage_name: str, settings: TrainingSettings, checkpoint_id: str, parent_id: str = "") -> Watch:
    """Tells how far a training is, and keeps it; drafts of runs that nobody will finish go."""
    going_on = set(unfinished_runs(turn.warehouse))
    for of_run in turn.home.drafts.iterdir() if turn.home.drafts.exists() else ():
        if of_run.name not in going_on:
            shutil.rmtree(of_run, ignore_errors=True)

    board = Board(turn.home.tensorboard / f"{turn.label.replace(' ', '-')}-{checkpoint_id}")
    draft = Draft(folder=turn.home.drafts / turn.run_id / checkpoint_id, origin=parent_id, every_s=KEPT_EVERY_S)

    def on_step(step: StepReport) -> None:
        if step.tokens_in_all:
            done, total, unit = step.tokens_done, step.tokens_in_all, "tokens"
        else:
            done, total, unit = step.step, step.num_steps, "steps"
        report(Progress(stage=stage_name, done=done, total=total, unit=unit, loss=step.loss))
        if settings.tensorboard:
            board(step)

    return Watch(on_step=on_step, on_wait=check_stop, say=warn, draft=draft)


def save(turn: Turn, trained: Trained, row: Checkpoint) -> None:
    """Publish a trained policy and the steps of its training, which then needs no draft.

    What an attempt that was broken off here left goes: it may have begun from another policy.
    """
    turn.registry.discard(row.checkpoint_id)
    turn.lake.republish("training_steps", row.checkpoint_id, [step_row(row, step) for step in trained.report.steps])
    turn.registry.save(row, trained.save)
    shutil.rmtree(turn.home.drafts / row.run_id / row.checkpoint_id, ignore_errors=True)
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
        num_examples=step.num_examples,
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
