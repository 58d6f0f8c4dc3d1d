"""What guides a search: what answers are worth to it, finished or not, and whether saying so reads the gold answer."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from models.policy.protocol import Completion
from models.reward.countdown import may_hold
from models.reward.math import find_answer, vote_of
from models.reward.outcome import is_whole, judge_completions
from models.reward.protocol import Judgement
from models.reward.text import said
from models.reward.verifier import reads_gold
from models.search.protocol import Guide
from storage.records import Problem

SURE = 0.999
"""The most that a guide says which cannot know: 1 is for a right answer."""


UNKNOWN = 0.5
"""Of an unfinished answer, where all that can be said is that something may come of it."""

DOUBT = 2
"""Votes' worth of not knowing that agreement starts from."""

STEP_RULES: dict[str, Callable[[Problem, str], bool]] = {"countdown": may_hold}
"""Verifier to whether an unfinished answer keeps its problem's rules; other answers are read at their end."""


class Verified:
    """The verifier as a guide: an answer is worth 1 if it solves its problem, else 0; an unfinished one UNKNOWN or 0.

    It judges no answer twice, so that who makes records of them asks it too.
    """

    reads_gold = True

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], Judgement] = {}

    def values(self, asked: Sequence[tuple[Problem, Completion]]) -> list[float]:
        """1, 0 or UNKNOWN for each answer."""
        finished = iter(self.judge([(problem, answer) for problem, answer in asked if answer.stop_reason != "step"]))
        return [
            float(next(finished).solved)
            if answer.stop_reason != "step"
            else UNKNOWN * keeps_rules(problem, answer.text)
            for problem, answer in asked
        ]

    def judge(self, attempts: Sequence[tuple[Problem, Completion]]) -> list[Judgement]:
        """One judgement an attempt, in order."""
        keys = [(problem.problem_id, answer.stop_reason, answer.text) for problem, answer in attempts]
        new = {key: attempt for key, attempt in zip(keys, attempts, strict=True) if key not in self._known}
        self._known.update(zip(new, judge_completions(list(new.values())), strict=True))
        return [self._known[key] for key in keys]


def keeps_rules(problem: Problem, text: str) -> bool:
    """Whether an unfinished answer breaks no rule that its problem states."""
    holds = STEP_RULES.get(problem.verifier)
    return holds is None or holds(problem, text)


class Rules(Verified):
    """The rules of the game that a problem itself states: what may guide solving and what is measured too."""

    reads_gold = False

    def values(self, asked: Sequence[tuple[Problem, Completion]]) -> list[float]:
        """1, 0 or UNKNOWN for each. Raises ValueError for a problem whose verifier reads its gold answer."""
        for problem, _ in asked:
            if reads_gold(problem):
                raise ValueError(
                    f"problem {problem.problem_id} states no rules that tell a right answer: its verifier "
                    f"{problem.verifier} reads the gold answer, which may guide training alone"
                )
        return super().values(asked)


class Likelihood:
    """What the policy itself thinks: the geometric mean of its tokens' probabilities, never quite 1."""

    reads_gold = False

    def values(self, asked: Sequence[tuple[Problem, Completion]]) -> list[float]:
        """Above 0 and below 1, for finished answers and unfinished ones; 0 where nothing was written."""
        return [_likelihood(answer.logprobs) for _, answer in asked]


def _likelihood(logprobs: Sequence[float]) -> float:
    return min(math.exp(sum(logprobs) / len(logprobs)), SURE) if logprobs else 0.0


class Agreement:
    """Self-consistency (Wang et al. 2022): the share of a problem's finished answers so far that agree."""

    reads_gold = False

    def __init__(self) -> None:
        self._votes: dict[str, Counter[str]] = {}

    def values(self, asked: Sequence[tuple[Problem, Completion]]) -> list[float]:
        """The vote that each finished answer joins, below 1; none is worth 0, an unfinished one UNKNOWN.

        Answers that are asked of together vote first, so that their order tells nothing.
        """
        found = [vote_of(find_answer(said(answer.text))) if is_whole(answer) else "" for _, answer in asked]
        for (problem, _), vote in zip(asked, found, strict=True):
            if vote:
                self._votes.setdefault(problem.problem_id, Counter())[vote] += 1
        return [
            UNKNOWN if answer.stop_reason == "step" else self._share(problem, vote)
            for (problem, answer), vote in zip(asked, found, strict=True)
        ]

    def _share(self, problem: Problem, vote: str) -> float:
        """Of the other votes; where they are few they count little, or the first answer would be the best of all."""
        votes = self._votes.get(problem.problem_id, Counter())
        return (votes[vote] - 1 + UNKNOWN * DOUBT) / (votes.total() - 1 + DOUBT) if vote else 0.0


GUIDES: dict[str, Callable[[], Guide[Problem]]] = {
    "verifier": Verified,
    "rules": Rules,
    "likelihood": Likelihood,
    "agreement": Agreement,
}
"""Name to guide."""
