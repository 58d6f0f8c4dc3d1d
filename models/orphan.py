"""A process that ends with the one that started it, however that one ended."""

import os
from threading import Thread
from time import sleep

LOOK_S = 0.3
"""Seconds between looks at the parent."""


def end_with(parent: int) -> None:
    """End this process when the parent, whose id is given, has ended."""
    Thread(target=_watch, args=[parent], daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        sleep(LOOK_S)
    os._exit(0)
