"""How a policy thinks about what is solved or measured, and which attempt it gives. Reads no gold answer."""

from collections.abc import Sequence
from typing import NamedTuple

from models.policy.protocol import Completion
from models.reward.guidance import GUIDES
from models.reward.math import find_answer
from models.reward.outcome import is_whole, judge_completions
from models.reward.verifier import reads_gold
from models.search.choice import CHOICES
from models.search.protocol import Guide, Strategy
from storage.records import Problem


class Thinking(NamedTuple):
    """`Thinking(MCTS(budget=Budget(tokens=600), boundary=";"), guide="rules", choice="majority")`."""

    strategy: Strategy
    guide: str
    choice: str

    @property
    def label(self) -> str:
        """Strategy, budget, guide and choice in words, as records carry it."""
        return f"{self.strategy.label}, guided by {self.guide}, {self.choice}"

    def open_guide(self) -> Guide[Problem]:
        """The guide. Raises ValueError for one that reads the gold answer."""
        guide = GUIDES[self.guide]()
        if guide.reads_gold:
            raise ValueError(
                f"the guide {self.guide} may read the gold answer, which guides training alone: take rules, likelihood "
                "or agreement"
            )
        return guide


class Chosen(NamedTuple):
    """The attempt that is given, and why: `Chosen(2, "(26-4)-7", "the rules accept 1 of 8 attempts", True)`."""

    place: int
    """Among the attempts."""
    answer: str
    why: str
    is_verified: bool
    """Whether the rules that the problem itself states accept it."""


def default_guide(problem: Problem) -> str:
    """What may guide solving: the rules that the problem states, and where they tell nothing, agreement."""
    return "agreement" if reads_gold(problem) else "rules"


def choose(problem: Problem, attempts: Sequence[Completion], thinking: Thinking) -> Chosen:
    """An attempt that the rules of the game accept, where the problem states them, else one by the choice."""
    tries = [(problem, attempt) for attempt in attempts]
    if not reads_gold(problem):
        judgements = judge_completions(tries)
        legal = [index for index, judgement in enumerate(judgements) if judgement.solved]
        why = f"the rules of the game accept {len(legal)} of {len(attempts)} attempts"
        chosen = legal[0] if legal else 0
        return Chosen(chosen, judgements[chosen].answer, why if legal else f"{why}; this is the first", bool(legal))
    answers = [find_answer(attempt.text) if is_whole(attempt) else "" for attempt in attempts]
    chosen = CHOICES[thinking.choice](answers, thinking.open_guide().values(tries))
    agreeing = answers.count(answers[chosen]) if answers[chosen] else 0
    why = f"{thinking.choice}: {agreeing} of {len(attempts)} attempts agree; not verified"
    return Chosen(chosen, answers[chosen] or find_answer(attempts[chosen].text), why, False)
