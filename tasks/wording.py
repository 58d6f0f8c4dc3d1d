"""Words for people, in a terminal or on a page, where text that a model wrote must not be able to do anything."""

import unicodedata
from collections.abc import Mapping
from typing import Any

UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that steer what shows a text, or hide in it."""


def printable(text: str, keep: str = "") -> str:
    """The text with control and invisible characters escaped: ESC becomes `\\x1b`. Those in `keep` stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in UNSEEN else escape(c) for c in text)


def escape(character: str) -> str:
    """`\\n`, `\\x1b`, `\\u202e`."""
    return character.encode("unicode_escape").decode("ascii")


def shorten(text: str, num_chars: int) -> str:
    """One printable line of at most so many characters."""
    line = printable(text)
    return line if len(line) <= num_chars else line[: num_chars - 1] + "…"


def minutes(seconds: float) -> str:
    """`0.4 seconds`, `40 seconds`, `7 minutes`, `3.5 hours`."""
    if seconds < 90:
        return f"{seconds:.{1 if seconds < 9.5 else 0}f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def show_accuracy(evaluation: Mapping[str, Any]) -> str:
    """`0.656 (95 % 0.635 to 0.677, 2,000 problems)`."""
    low, high, num_problems = (evaluation[name] for name in ("low", "high", "num_problems"))
    return f"{evaluation['accuracy']:.3f} (95 % {low:.3f} to {high:.3f}, {num_problems:,} problems)"
