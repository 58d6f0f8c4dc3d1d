"""What a search is: a generator that asks for continuations, or what answers are worth, and is sent the replies.

It knows no engine, no guide and no batch, so each strategy reads like its textbook, is
tested with a scripted policy, and leaves full batches to the driver.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from models.policy.protocol import Completion, Request

KeyT_contra = TypeVar("KeyT_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Continue:
    """Asks for a completion of each request."""

    requests: Sequence[Request]


@dataclass(frozen=True, slots=True)
class Value:
    """Asks the guide what each answer is worth."""

    answers: Sequence[Completion]


Search = Generator[Continue | Value, Sequence[Any], list[Completion]]
"""Yields what it asks, is sent a reply for each in order, and returns its attempts, first choice first."""


def complete(requests: Sequence[Request]) -> Generator[Continue | Value, Sequence[Any], list[Completion]]:
    """Within a search: `completions = yield from complete(requests)`."""
    return list((yield Continue(requests)))


def value(answers: Sequence[Completion]) -> Generator[Continue | Value, Sequence[Any], list[float]]:
    """Within a search: `values = yield from value(completions)`; from 0, worth nothing, to 1, surely right."""
    return list((yield Value(answers)))


class Guide(Protocol[KeyT_contra]):
    """Says what answers are worth to the searches that ask."""

    reads_gold: bool
    """Whether it reads the gold answer: then it may guide training, and nothing that is measured."""

    def values(self, asked: Sequence[tuple[KeyT_contra, Completion]]) -> list[float]:
        """The value of each answer to the problem of its key, in order, from 0 to 1."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What to search: `Task(prompt="4 7 26>15;", seed=7, max_new_tokens=96)`."""

    prompt: str
    seed: int
    """Keys all noise of the search, so that it does not depend on batches or shards."""
    max_new_tokens: int


class Strategy(Protocol):
    """A way to think longer about a problem."""

    @property
    def label(self) -> str:
        """Strategy and budget in words, as records carry it: `best_of_n(8)`."""
        ...

    def search(self, task: Task) -> Search:
        """Start a search."""
        ...
