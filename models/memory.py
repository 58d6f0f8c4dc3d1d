"""What does not fit the memory is computed in halves, once, and that is said."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")

Say = Callable[[str], None]
WARN: Say = logging.getLogger("flywheel").warning
"""For whoever has no listener."""
MOST_HALVINGS = 1
"""Times that work short of memory goes on with half of what it takes at once."""


class NoMemoryError(RuntimeError):
    """The memory does not hold what is computed at once."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether it is the memory that failed, a GPU's or the machine's."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextmanager
def explained(advice: str) -> Iterator[None]:
    """NoMemoryError with an advice, where the memory fails what cannot be done in halves."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise NoMemoryError(f"out of memory: {advice}") from error


class Memory:
    """How much is computed at once, of a unit: `Memory(8192, say, "lower …").hold(work)`.

    What is computed in halves comes to the same `result`.
    """

    def __init__(
        self,
        at_once: int,
        say: Say,
        advice: str,
        *,
        unit: str = "tokens at once",
        result: str = "step",
        may_halve: bool = True,
    ) -> None:
        self.at_once = at_once
        self._unit = unit
        self._result = result
        self._say = say
        self._advice = advice
        self._halvings_left = MOST_HALVINGS if may_halve else 0

    def hold(self, work: Callable[[int], T], most: int | None = None) -> T:
        """What work gives, told how much to take at once; it is done anew where that was too much.

        There is no more of it than `most`: half of less is tried.
        """
        while True:
            try:
                return work(self.at_once)
            except RuntimeError as error:
                self._make_do(error, min(self.at_once, most or self.at_once))
            gc.collect()  # the frames that held the tensors are gone by now
            torch.cuda.empty_cache()

    def _make_do(self, error: RuntimeError, tried: int) -> None:
        """Half as much at once, where it is the memory that failed; raises where that does not help."""
        if not is_out_of_memory(error):
            raise error
        if not self._halvings_left:
            raise NoMemoryError(f"the memory does not hold {tried:,} {self._unit}: {self._advice}") from error
        self._halvings_left -= 1
        self.at_once = max(1, tried // 2)
        self._say(f"out of memory: on with {self.at_once:,} {self._unit}, which changes no {self._result}")
