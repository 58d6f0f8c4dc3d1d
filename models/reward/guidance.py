"""What guides a search: what answers are worth to it, finished or not, and whether saying so reads the gold answer."""

from collections.abc import Sequence

from models.policy.protocol import Completion
from models.reward.outcome import judge_completions
from models.reward.protocol import Judgement
from models.reward.verifier import reads_gold
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


class Rules(Verified):
    """The rules of the game that a problem itself states: what may guide solving and what is measured too."""

    reads_gold = False

    def judge(self, attempts: Sequence[tuple[Problem, Completion]]) -> list[Judgement]:
        """One judgement an attempt, in order. Raises ValueError for a problem whose verifier reads its gold answer."""
        for problem, _ in attempts:
            if reads_gold(problem):
                raise ValueError(
                    f"problem {problem.problem_id} states no rules that tell a right answer: its verifier "
                    f"{problem.verifier} reads the gold answer, which may guide training alone"
                )
        return super().judge(attempts)
