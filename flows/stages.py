"""The stages of a turn as they go by: timed for the record, told to whoever looks, begun only with room on the disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from flows.config import Config
from storage.home import Home
from storage.records import Round
from tasks.progress import check_stop
from tasks.turn import Turn


class Watcher(Protocol):
    """Whoever looks."""

    def begin(self, label: str, stage: str, total: int | None) -> None:
        """A stage begins: `begin("round 3", "search", 3000)`; None where the tasks know how much there is to do."""
        ...

    def end(self) -> None:
        """It ended well."""
        ...

    def tell_round(self, row: Round, turn: Turn) -> None:
        """A round is closed."""
        ...

    def say(self, text: str) -> None:
        """A line for people. What a model wrote in it is escaped already."""
        ...


class Nobody:
    """Nobody looks."""

    def begin(self, label: str, stage: str, total: int | None) -> None: ...

    def end(self) -> None: ...

    def tell_round(self, row: Round, turn: Turn) -> None: ...

    def say(self, text: str) -> None: ...


_watchers: list[Watcher] = [Nobody()]


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Let someone look at every stage of this process."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def watcher() -> Watcher:
    """Whoever looks now."""
    return _watchers[-1]


@dataclass(kw_only=True)
class Stages:
    """Stages of one turn: `with stages("search"): …`."""

    label: str
    watcher: Watcher
    home: Home
    floor_bytes: int
    """No stage begins with less free disk."""
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, turn: Turn, config: Config) -> "Stages":
        """The stages of a turn, for whoever looks now."""
        return cls(label=turn.label, watcher=watcher(), home=turn.home, floor_bytes=config.run.min_free_mb * 10**6)

    @contextmanager
    def __call__(self, stage: str, total: int | None = None) -> Iterator[None]:
        """Time a stage."""
        check_stop()
        self.home.require_space(0, f"stage {stage}", floor_bytes=self.floor_bytes)
        self.watcher.begin(self.label, stage, total)
        started = monotonic()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + monotonic() - started
        self.watcher.end()
