"""Bounds what DuckDB's own limits do not reach: memory that a function takes for itself, and a call without end."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Timer

SPARE_BYTES = 4 << 30
"""Address space that a statement may take: what it computes with, and its answer."""
GRACE_S = 5.0
"""After its time a statement may take so long to hear of it."""
ONE_AT_A_TIME = Lock()
"""The limit is the process's: of two threads, one would put back what the other had set."""


@contextmanager
def contained(timeout_s: float) -> Iterator[None]:
    """Have a person's SQL take no more of this process than it may.

    A call that hears no interrupt ends with the process.
    """
    with ONE_AT_A_TIME:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = address_space() + SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
        watch = Timer(timeout_s + GRACE_S, give_up, [timeout_s])
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def give_up(timeout_s: float) -> None:
    """End this process, for a statement in it does not."""
    told = f"flywheel: one call in that statement took more than {timeout_s:g} s and cannot be stopped, so this ends.\n"
    sys.stderr.write(told)
    sys.stderr.flush()
    os._exit(1)


def address_space() -> int:
    """Bytes of address space in use."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
