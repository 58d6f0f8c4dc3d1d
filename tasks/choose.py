"""How a policy thinks about what is solved or measured, and which attempt it gives. Reads no gold answer."""

from collections.abc import Sequence
from typing import NamedTuple

from models.policy.protocol import Completion
from models.reward.guidance import GUIDES
from models.reward.math import find_answer, vote_of
from models.reward.outcome import is_whole, judge_completions
from models.reward.verifier import reads_gold
from models.search.best_of_n import BestOfN
from models.search.choice import CHOICES
from models.search.protocol import Guide, Strategy
from storage.records import Problem

BY_RULES = "the rules of the game"
"""The choice where the problem states rules that tell a right answer."""


class Thinking(NamedTuple):
    """`Thinking(MCTS(budget=Budget(tokens=600), boundary=";"), guide="rules", choice=BY_RULES)`."""

    strategy: Strategy
    guide: str
    choice: str
    """Of CHOICES, or BY_RULES."""

    @property
    def label(self) -> str:
        """Strategy, budget, what guided and what chose in words, as records carry it."""
        guided = "" if isinstance(self.strategy, BestOfN) else f", guided by {self.guide}"
        values = f" by {self.guide}" if self.choice == "weighted" else ""
        return f"{self.strategy.label}{guided}, chosen by {self.choice}{values}"

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


def think(problem: Problem, strategy: Strategy, guide: str | None, choice: str | None) -> Thinking:
    """How to think about problems like this one: by the rules that they state, else by agreement.

    Raises ValueError for a guide or a choice that would do nothing.
    """
    states_rules = not reads_gold(problem)
    if choice and states_rules:
        raise ValueError(
            f"the choice {choice} would do nothing: of answers to such problems the rules that they state choose one. "
            "Leave it out"
        )
    if guide and isinstance(strategy, BestOfN) and choice != "weighted":
        raise ValueError(
            f"the guide {guide} would do nothing: best_of_n asks one only where answers are weighted. Leave it out, or "
            "take a strategy that grows a tree"
        )
    by_default = "rules" if states_rules else "agreement"
    return Thinking(strategy, guide or by_default, BY_RULES if states_rules else choice or "majority")


def choose(problem: Problem, attempts: Sequence[Completion], thinking: Thinking) -> Chosen:
    """An attempt that the rules of the game accept, where the problem states them, else one by the choice."""
    tries = [(problem, attempt) for attempt in attempts]
    if thinking.choice == BY_RULES:
        judgements = judge_completions(tries)
        legal = [index for index, judgement in enumerate(judgements) if judgement.solved]
        why = f"the rules of the game accept {len(legal)} of {len(attempts)} attempts"
        chosen = legal[0] if legal else 0
        return Chosen(chosen, judgements[chosen].answer, why if legal else f"{why}; this is the first", bool(legal))
    votes = [vote_of(find_answer(attempt.text)) if is_whole(attempt) else "" for attempt in attempts]
    chosen = CHOICES[thinking.choice](votes, thinking.open_guide().values(tries))
    agreeing = votes.count(votes[chosen]) if votes[chosen] else 0
    why = f"{thinking.choice}: {agreeing} of {len(attempts)} attempts agree; not verified"
    return Chosen(chosen, find_answer(attempts[chosen].text), why, False)
