"""How people stop the work: cleanly at first, at once when they insist."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tasks.progress import is_stopping, request_stop

STOPPED = 130
"""Exit status of work that was asked to stop."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM ask the work to stop where that is clean; a second one ends it at once.

    Signals are the main thread's: elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.SIG_DFL if is_stopping() else stop
    before = {signum: signal.signal(signum, handler) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)


def stop(signum: int, _: Any) -> None:
    """Ask the work to stop; the next signal of this kind is the system's to handle."""
    signal.signal(signum, signal.SIG_DFL)
    request_stop()
