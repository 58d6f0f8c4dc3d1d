"""What a process owes the one that started it: to stop when that is asked to, and to end when that has ended."""

import atexit
import multiprocessing
import os
import signal
from functools import cache
from threading import Thread
from time import sleep

from tasks.progress import request_stop

LOOK_S = 0.3
"""Seconds between looks at the parent."""


@cache
def obey_parent() -> None:
    """In a process of a pool, stop at the next report after a Ctrl-C, and outlive no parent; elsewhere nothing.

    The pool's processes hold each other's pipes, and so would wait for ever for a parent that was killed.
    """
    if multiprocessing.current_process().name != "MainProcess":  # known before parent_process() is
        signal.signal(signal.SIGINT, lambda *_: request_stop())
        end_with(os.getppid())
        atexit.register(os._exit, 0)  # taken apart, the interpreter makes DuckDB complain of leaks


def ask_children_to_stop() -> None:
    """As a Ctrl-C does, which they get by themselves."""
    for child in multiprocessing.active_children():
        if child.pid is not None:
            os.kill(child.pid, signal.SIGINT)


def end_with(parent: int) -> None:
    """End this process when the parent has ended, however that did."""
    Thread(target=_watch, args=[parent], daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        sleep(LOOK_S)
    os._exit(0)
