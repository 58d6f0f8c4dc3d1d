"""Brings what an objective learns from out of the warehouse, and keeps the pairs that were made."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from models.learning.examples import Attempt, Pair, Solution
from models.learning.finetune import Lessons
from models.learning.settings import CLONING, LearningSettings
from models.policy.settings import PolicySettings
from storage.lessons import Where, attempts, pairs
from storage.picks import picked_set
from storage.records import PreferencePair, make_id
from storage.selection import training_set
from tasks.turn import Turn


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Lessons, and which share of them another policy wrote than the one that will learn them."""

    lessons: Lessons
    stale_share: float


def find_lessons(
    turn: Turn,
    settings: LearningSettings,
    policy: PolicySettings,
    *,
    selection_id: str,
    parent_id: str,
    checkpoint_id: str,
) -> Found:
    """What a retrain picked, else what is kept or was attempted in the newest rounds. Raises ValueError on nothing."""
    if settings.objective == CLONING:
        rows = solutions(turn, selection_id, settings)
        found: Lessons = [Solution(*row) for row in rows.drop("checkpoint_id").iter_rows()]
    elif settings.objective == "dpo":
        rows = pairs(
            turn.warehouse,
            where(turn, settings, policy, selection_id),
            margin=settings.pair_margin,
            max_pairs=settings.max_pairs,
        )
        found = keep_pairs(turn, rows, checkpoint_id)
        rows = rows.explode("checkpoint_ids").rename({"checkpoint_ids": "checkpoint_id"})
    else:
        rows = attempts(turn.warehouse, where(turn, settings, policy, selection_id))
        found = [Attempt(*row) for row in rows.drop("checkpoint_id").iter_rows()]
    if not found:
        raise ValueError(explain_nothing(turn, settings))
    num_stale = rows.filter(pl.col("checkpoint_id") != parent_id).height
    return Found(lessons=found, stale_share=num_stale / rows.height)


def where(turn: Turn, settings: LearningSettings, policy: PolicySettings, selection_id: str) -> Where:
    """Of which attempts."""
    return Where(
        line=turn.line,
        round=turn.round,
        window=settings.window,
        longest=policy.max_new_tokens,
        selection_id=selection_id,
    )


def solutions(turn: Turn, selection_id: str, settings: LearningSettings) -> pl.DataFrame:
    """What a retrain picked, or else what is kept, newer rounds with a greater share."""
    if turn.lake.has("picks", selection_id):
        rows = picked_set(turn.warehouse, selection_id)
    else:
        rows = training_set(turn.warehouse, line=turn.line, round=turn.round, fade=settings.fade)
    return rows.select("trajectory_id", "prompt", "token_ids", "share", "weight", "checkpoint_id")


def keep_pairs(turn: Turn, rows: pl.DataFrame, checkpoint_id: str) -> Sequence[Pair]:
    """Publish the pairs, unless they are there; gives them for the training."""
    records, found = [], []
    for row in rows.iter_rows(named=True):
        pair_id = make_id("pair", checkpoint_id, row["kind"], row["chosen_id"], row["rejected_id"], row["prefix"])
        records.append(
            PreferencePair(
                pair_id=pair_id,
                checkpoint_id=checkpoint_id,
                line=turn.line,
                run_id=turn.run_id,
                round=turn.round,
                **{
                    name: row[name]
                    for name in (
                        "problem_id", "kind", "chosen_id", "rejected_id", "prefix", "chosen", "rejected", "margin"
                    )
                },
            )
        )  # fmt: skip
        found.append(Pair(pair_id, row["prompt"], row["prefix_tokens"], row["chosen_tokens"], row["rejected_tokens"]))
    turn.lake.publish("pairs", checkpoint_id, records)
    return found


def explain_nothing(turn: Turn, settings: LearningSettings) -> str:
    """What to do where there is nothing to learn from."""
    if settings.objective == CLONING:
        return (
            f'nothing was kept for training in {turn.label}: `flywheel sql "SELECT reason, count(*) FROM '
            f'current_selections GROUP BY ALL"` says why. Search harder (search.samples), or take easier problems.'
        )
    return (
        f"{settings.objective} has nothing to learn from in {turn.label}: no problem there has both right and wrong "
        f"attempts. Learn from more rounds (learning.window), or in a retrain select wrong ones too, as attempts does."
    )
