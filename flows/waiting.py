"""Waiting for one's place at the home: told once a writer, ended where the work should stop."""

from collections.abc import Callable
from dataclasses import dataclass

from tasks.progress import check_stop

SILENCE_S = 120.0
"""After which a worker at work is taken for dead."""


@dataclass
class Waiting:
    """To be told at each look who is waited for: `home.writer(Waiting(print))`."""

    say: Callable[[str], None]
    words: str = "waits for {holder}; a wheel gives way between two rounds"
    holder: str = ""

    def __call__(self, holder: str) -> None:
        """Raises StoppedError where the wait should end."""
        check_stop()
        if holder != self.holder:
            self.holder = holder
            self.say(self.words.format(holder=holder))
