"""How far the work at hand is, for whoever looks, and whether it should stop.

Tasks report here and ask here; flows choose who listens. Both are of the process: a task in
a process of its own reports to nobody, so its parent reports what it gives, and stops with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


class StoppedError(RuntimeError):
    """Someone asked the work to stop. What was published stays; the stage at hand starts again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a stage, or a shard of it, is: `Progress(stage="search", part=2, done=120, total=500, …)`."""

    stage: str
    done: int
    total: int
    unit: str = "problems"
    part: int = 0
    solved: int = 0
    tried: int = 0
    """Problems judged, of which `solved` were solved."""
    tokens: int = 0
    """Generated meanwhile: none where all was there before."""
    loss: float | None = None


class Listener(Protocol):
    """Whoever looks."""

    def hear(self, progress: Progress) -> None:
        """A task says how far it is."""
        ...

    def say(self, text: str) -> None:
        """A task has a line for people."""
        ...


_listeners: list[Listener] = []
_wishes_to_stop: list[bool] = []
"""No lock is in it: a signal may come while another is handled."""


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Have someone hear what tasks report meanwhile."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def report(progress: Progress) -> None:
    """Tell everyone who listens; raises StoppedError where the work should stop."""
    for listener in list(_listeners):
        listener.hear(progress)
    check_stop()


def tell(text: str) -> None:
    """Say a line to everyone who listens."""
    for listener in list(_listeners):
        listener.say(text)


def request_stop() -> None:
    """Ask the work to stop at its next report."""
    _wishes_to_stop.append(True)


def is_stopping() -> bool:
    """Whether someone asked the work to stop."""
    return bool(_wishes_to_stop)


def check_stop() -> None:
    """Raises StoppedError where the work should stop."""
    if _wishes_to_stop:
        raise StoppedError("asked to stop")
