"""What a search is: a generator that asks for continuations, or what answers are worth, and is sent the replies.

It knows no engine, no guide and no batch, so each strategy reads like its textbook, is
tested with a scripted policy, and leaves full batches to the driver.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from models.policy.protocol import Completion, Request
from models.search.tree import Node

KeyT_contra = TypeVar("KeyT_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Continue:
    """Asks for a completion of each request."""

    requests: Sequence[Request]


@dataclass(frozen=True, slots=True)
class Value:
    """Asks the guide what each answer is worth."""

    answers: Sequence[Completion]


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to: `Found([completion, …])`."""

    attempts: list[Completion]
    """Answers to their ends, first choice first."""
    root: Node | None = None
    """The tree that was grown, where the strategy grows one."""
    leaves: list[Node] = field(default_factory=list)
    """Each attempt's leaf in it."""

    @property
    def num_tokens(self) -> int:
        """All that was generated, kept or not."""
        if self.root is None:
            return sum(len(attempt.token_ids) for attempt in self.attempts)
        return sum(node.num_tokens for node in self.root.walk())


Search = Generator[Continue | Value, Sequence[Any], Found]
"""Yields what it asks, is sent a reply for each in order, and returns what it found."""


def complete(requests: Sequence[Request]) -> Generator[Continue | Value, Sequence[Any], list[Completion]]:
    """Within a search: `completions = yield from complete(requests)`."""
    return list((yield Continue(requests)))


def value(answers: Sequence[Completion]) -> Generator[Continue | Value, Sequence[Any], list[float]]:
    """Within a search: `values = yield from value(completions)`; from 0, worth nothing, to 1, surely right."""
    return list((yield Value(answers)))


def harvest(root: Node, leaves: Iterable[Node], seed: int, prompt_tokens: int) -> Found:
    """A tree's attempts, the most valued first, of equals the one that was found first.

    Where no answer came to its end, it is the most valued of the longest, cut off.
    """
    ranked = sorted(leaves, key=lambda leaf: -leaf.value)
    if not ranked:
        ranked = [max(root.walk(), key=lambda node: (len(node.prefix), node.value))]
        ranked[0].cut_off(0)
    return Found([leaf.answer(seed, prompt_tokens) for leaf in ranked], root, ranked)


class Guide(Protocol[KeyT_contra]):
    """Says what answers are worth to the searches that ask."""

    reads_gold: bool
    """Whether it reads the gold answer: then it may guide training, and nothing that is measured."""

    def values(self, asked: Sequence[tuple[KeyT_contra, Completion]]) -> list[float]:
        """The value of each answer to the problem of its key, in order, from 0 to 1.

        0 for an unfinished answer says that nothing can come of it: a search goes no further there.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What to search: `Task(prompt="4 7 26>15;", seed=7, max_new_tokens=96)`."""

    prompt: str
    seed: int
    """Keys all noise of the search, so that it does not depend on batches or shards."""
    max_new_tokens: int
    root: Node | None = None
    """Where its tree is to grow, for who wants to see it grow; else in a node of its own."""


class Strategy(Protocol):
    """A way to think longer about a problem."""

    @property
    def label(self) -> str:
        """Strategy and budget in words, as records carry it: `best_of_n(8)`."""
        ...

    def search(self, task: Task) -> Search:
        """Start a search."""
        ...
