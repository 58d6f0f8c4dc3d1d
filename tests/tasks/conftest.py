"""A line as a wheel leaves it in the lake, but without its policies: what a report is made of."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from models.evaluation.metrics import wilson_interval
from storage.home import Home
from storage.lake import Lake
from storage.records import Promotion, State, Verdict
from storage.registry import Registry
from tests.storage.conftest import NOON, make_sample

LINE, RUN = "countdown-scratch-123456", "a1b2c3d4e5f6"
ATTEMPTS = [
    ("26-4=22,7;22-7=15;", "solved", "kept"),
    ("26-7=19,4;19-4=15;", "solved", "duplicate"),
    ("4+7=11,26;26-11=15;", "wrong", "wrong"),
    ("4+7=11,", "unparsed", "wrong"),
]
"""Of each search, at a problem each: what was written, the verifier's reason and the filter's."""


class Line:
    """`Line(home).turn(0, 200)` is the initial policy's round."""

    def __init__(self, home: Home, config: str = '{"search": {"samples": 4}}') -> None:
        self.lake, self.registry = Lake(home), Registry(home)
        self.lake.seed()
        self.add("runs", state=State.RUNNING, config=config, version="0.1.0")

    def add(self, table: str, **fields: Any) -> None:
        """A row in a part of its own."""
        known = {"line": LINE, "run_id": RUN} | fields
        row = make_sample(table, **{name: known[name] for name in known if hasattr(make_sample(table), name)})
        key = f"{table}-{len(self.lake.keys(table))}"
        self.lake.publish(table, fields["checkpoint_id"] if table == "checkpoints" else key, [row])

    def turn(
        self, round: int, num_solved: int, *, promoted: bool = True, reason: str = "", attempts: Any = ATTEMPTS,
        prompt: str = "4 7 26>15;", **measured: Any,
    ) -> None:  # fmt: skip
        """A closed round, whose candidate solves so many of 1,000 benchmark problems."""
        latest = self.registry.latest(LINE)
        champion = latest.champion_id if latest else ""
        if champion:
            self.search(round, champion, attempts, prompt)
        verdict = (Verdict.PROMOTED if promoted else Verdict.REFUSED) if champion else Verdict.INITIAL
        candidate = self.make(round, champion, num_solved, **measured)
        decision = self.decide(candidate, round, verdict, reason=reason)
        seconds = {"sample": 1.0, "search": 40.0, "finetune": 55.5} if champion else {"initialize": 61.0}
        self.add(
            "rounds",
            round=round,
            candidate_id=candidate,
            champion_id=decision.champion_id,
            promoted=promoted,
            reason=decision.reason,
            num_trajectories=len(attempts) if champion else 0,
            solved_share=0.5,
            stage_seconds=json.dumps(seconds),
            seconds=sum(seconds.values()),
            created_at=NOON + timedelta(minutes=round),
        )

    def search(self, round: int, checkpoint: str, attempts: Any = ATTEMPTS, prompt: str = "4 7 26>15;") -> None:
        """What a round's search made, and what the filter says of it."""
        for place, (text, reason, decision) in enumerate(attempts):
            ids = {"trajectory_id": f"{round}-{text}", "problem_id": f"{round}-{place}", "round": round}
            self.add("problems", prompt=prompt, split="train", **ids)
            self.add(
                "trajectories",
                checkpoint_id=checkpoint,
                text=text,
                reason=reason,
                solved=reason == "solved",
                num_tokens=20,
                **ids,
            )
            self.add("selections", reason=decision, kept=decision == "kept", **ids)

    def make(self, round: int, parent: str, num_solved: int, *, name: str = "c", **measured: Any) -> str:
        """A checkpoint on the benchmark."""
        checkpoint = f"{name}{round}"
        objective = "cloning" if parent else "initialization"
        self.add(
            "checkpoints",
            checkpoint_id=checkpoint,
            parent_id=parent,
            round=round,
            objective=objective,
            num_tokens=7_000,
        )
        self.evaluate(checkpoint, round, "benchmark", num_solved, **measured)
        return checkpoint

    def evaluate(self, checkpoint: str, round: int, split: str, num_solved: int, **fields: Any) -> None:
        """How many of 1,000 problems it solves."""
        low, high = wilson_interval(num_solved, 1000)
        known = {
            "num_problems": 1000,
            "accuracy": num_solved / 1000,
            "low": low,
            "high": high,
            "num_tokens": 9_000,
            "strategy": "greedy",
        }
        reference = {"chance": 0.213, "brute_force": 8.2, "pass_at_8": 0.9, "num_pass_problems": 250}
        self.add("evaluations", checkpoint_id=checkpoint, round=round, split=split, **known | reference | fields)

    def decide(self, candidate: str, round: int, verdict: Verdict, by: str = "gate", reason: str = "") -> Promotion:
        """A decision about a candidate."""
        decision = Promotion(
            line=LINE,
            run_id=RUN,
            round=round,
            candidate_id=candidate,
            verdict=verdict,
            reason=reason or f"{candidate} was asked",
            decided_by=by,
        )
        return self.registry.promote(decision, self.registry.latest(LINE))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / "home")
