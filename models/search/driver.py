"""Runs thousands of searches at once and turns all their requests into full batches.

Searches are started as long as the engine has room, so that neither the engine
nor memory waits for a slow one. A search's result does not depend on the others.
A search that raises is a mistake of ours: the error goes up, with the search's key.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Generic, TypeVar

from models.policy.protocol import Completion, Engine
from models.search.protocol import Continue, Found, Guide, Search, Value

Key = TypeVar("Key")

_TICKETS = count()
"""Names every request of this process, so that what an abandoned drive left in an engine is nobody else's answer."""


def drive(
    searches: Iterable[tuple[Key, Search]], engine: Engine, guide: Guide[Key] | None = None, *, in_flight: int = 2048
) -> Iterator[list[tuple[Key, Found]]]:
    """After each step of the engine, the searches that finished with it: key and what they found.

    `in_flight` bounds the requests that wait in the engine; the last search started may exceed it.
    Raises RuntimeError when the engine loses requests, and whatever a search, the guide or the engine raises.
    """
    assert in_flight > 0, in_flight
    desk = _Desk[Key](engine, guide)
    waiting = iter(searches)
    while True:
        while desk.num_open + desk.num_finished < in_flight and (following := next(waiting, None)) is not None:
            desk.start(*following)
        if desk.num_open:
            desk.step()
        desk.value()
        finished = desk.collect()
        if not (finished or desk.num_open):
            return
        yield finished


class _Running(Generic[Key]):
    """A search that waits for completions, some of which may be there."""

    def __init__(self, key: Key, search: Search) -> None:
        self.key = key
        self.search = search
        self.answers: list[Completion | None] = []
        self.num_missing = 0


class _Desk(Generic[Key]):
    """Who waits for what."""

    def __init__(self, engine: Engine, guide: Guide[Key] | None) -> None:
        self._engine = engine
        self._guide = guide
        self._waiting: dict[int, tuple[_Running[Key], int]] = {}
        self._unvalued: list[tuple[_Running[Key], Sequence[Completion]]] = []
        self._finished: list[tuple[Key, Found]] = []

    @property
    def num_open(self) -> int:
        """Requests in the engine."""
        return len(self._waiting)

    @property
    def num_finished(self) -> int:
        """Searches that wait to be collected."""
        return len(self._finished)

    def start(self, key: Key, search: Search) -> None:
        """Run a search up to what it asks first."""
        self._advance(_Running(key, search), None)

    def step(self) -> None:
        """Have the engine work for a while, and every search that got all its answers go on."""
        answered = self._engine.step()
        if not answered:
            raise RuntimeError(f"the engine has nothing left to do, and {self.num_open} requests have no answer")
        for ticket, completion in answered:
            if ticket not in self._waiting:
                continue
            running, place = self._waiting.pop(ticket)
            running.answers[place] = completion
            running.num_missing -= 1
            if not running.num_missing:
                self._advance(running, [answer for answer in running.answers if answer is not None])

    def value(self) -> None:
        """Have the guide say what all searches ask of it, in one batch, until none asks."""
        while self._unvalued:
            if self._guide is None:
                raise RuntimeError(f"the search {self._unvalued[0][0].key!r} asks for values, and nobody guides it")
            asking, self._unvalued = self._unvalued, []
            values = iter(self._guide.values([(running.key, answer) for running, asked in asking for answer in asked]))
            for running, asked in asking:
                self._advance(running, list(islice(values, len(asked))))

    def collect(self) -> list[tuple[Key, Found]]:
        """Finished searches, each once."""
        finished, self._finished = self._finished, []
        return finished

    def _advance(self, running: _Running[Key], replies: Sequence[Completion] | Sequence[float] | None) -> None:
        """Send a search its replies, and pass on what it asks next."""
        try:
            asked = running.search.send(replies)  # type: ignore[arg-type]  # None starts a generator
            while isinstance(asked, Continue) and not asked.requests:
                asked = running.search.send([])
        except StopIteration as end:
            self._finished.append((running.key, end.value))
            return
        except Exception as error:
            error.add_note(f"in the search {running.key!r}")
            raise
        if isinstance(asked, Value):
            self._unvalued.append((running, asked.answers))
            return
        running.answers, running.num_missing = [None] * len(asked.requests), len(asked.requests)
        for place, request in enumerate(asked.requests):
            ticket = next(_TICKETS)
            self._waiting[ticket] = running, place
            self._engine.add(ticket, request)
