"""What a search is: a generator that asks for continuations and is sent them.

It knows no engine and no batch, so each strategy reads like its textbook, is
tested with a scripted policy, and leaves full batches to the driver.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from models.policy.protocol import Completion, Request

Search = Generator[Sequence[Request], Sequence[Completion], list[Completion]]
"""Yields requests, is sent a completion for each in order, and returns its attempts, first choice first."""


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
