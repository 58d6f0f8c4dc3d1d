"""What a judge of answers is: problems and texts in, judgements out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from storage.records import Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """Whether a text solves a problem, and why: `Judgement(solved=False, reason="unparsed")`."""

    solved: bool
    reason: str
    """solved, wrong, unparsed (no answer found), timeout or error (the checker failed)."""
    answer: str = ""
    """The answer as read from the text, at most 200 characters."""


class Verifier(Protocol):
    """Judges texts from the Problem row alone. Model text is untrusted: bounded in time and memory, never run."""

    reads_gold: bool
    """Whether it reads the gold answer. Rules that the problem itself states are not a gold answer."""

    def judge(self, attempts: Sequence[tuple[Problem, str]]) -> list[Judgement]:
        """One judgement an attempt, in order. Never raises for anything a model wrote."""
        ...
