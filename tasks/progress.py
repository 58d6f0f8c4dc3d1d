"""How far the work at hand is, for whoever looks, and whether it should stop.

Tasks report here and ask here; flows choose who listens. Both are of the process:
a task in a process of its own reports to nobody, and stops with its parent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event


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
    """Answers judged, of which `solved` were right."""
    tokens: int = 0
    loss: float | None = None


Listener = Callable[[Progress], None]

_listeners: list[Listener] = []
_stop = Event()


def listen(listener: Listener) -> Callable[[], None]:
    """Hear every report from now on; call what is returned to hear no more."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def report(progress: Progress) -> None:
    """Tell everyone who listens; raises StoppedError where the work should stop."""
    for listener in list(_listeners):
        listener(progress)
    check_stop()


def request_stop() -> None:
    """Ask the work to stop at its next report."""
    _stop.set()


def is_stopping() -> bool:
    """Whether someone asked the work to stop."""
    return _stop.is_set()


def check_stop() -> None:
    """Raises StoppedError where the work should stop."""
    if _stop.is_set():
        raise StoppedError("asked to stop")


def reset() -> None:
    """Forget an earlier wish to stop."""
    _stop.clear()
