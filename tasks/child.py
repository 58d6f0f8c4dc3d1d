"""What a process owes the one that started it: to stop when that is asked to, and to end when that has ended."""

import atexit
import multiprocessing
import os
import signal
from functools import cache

from models.orphan import end_with
from tasks.progress import request_stop

OWN_SERVER_VARIABLE = "FLYWHEEL_OWN_SERVER"
"""Tells a process and its children that their Prefect server is theirs alone, and ends with them."""


@cache
def obey_parent() -> None:
    """In a process of a pool, stop at the next report after a Ctrl-C, and outlive no parent; elsewhere nothing.

    The pool's processes hold each other's pipes, and so would wait for ever for a parent that was killed.
    """
    if is_of_pool():
        signal.signal(signal.SIGINT, lambda *_: request_stop())
        end_with(os.getppid())
        atexit.register(os._exit, 0)  # taken apart, the interpreter makes DuckDB complain of leaks


def is_of_pool() -> bool:
    """Whether this is a process of a pool."""
    return multiprocessing.current_process().name != "MainProcess"  # known before parent_process() is


def ask_children_to_stop() -> None:
    """As a Ctrl-C does, which they get by themselves."""
    for child in multiprocessing.active_children():
        if child.pid is not None:
            os.kill(child.pid, signal.SIGINT)
