"""Guides of train-time search that read more than the policy may."""

from collections.abc import Sequence

from models.policy.protocol import Completion
from models.reward.outcome import judge_completions
from models.reward.protocol import Judgement
from storage.records import Problem


class Verified:
    """The verifier as a guide: an answer is worth 1 if it solves its problem, else 0.

    It judges no answer twice, so that who makes records of them asks it too.
    """

    reads_gold = True

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], Judgement] = {}

    def values(self, asked: Sequence[tuple[Problem, Completion]]) -> list[float]:
        """1 or 0 for each answer."""
        return [float(judgement.solved) for judgement in self.judge(asked)]

    def judge(self, attempts: Sequence[tuple[Problem, Completion]]) -> list[Judgement]:
        """One judgement an attempt, in order."""
        keys = [(problem.problem_id, answer.stop_reason, answer.text) for problem, answer in attempts]
        new = {key: attempt for key, attempt in zip(keys, attempts, strict=True) if key not in self._known}
        self._known.update(zip(new, judge_completions(list(new.values())), strict=True))
        return [self._known[key] for key in keys]
