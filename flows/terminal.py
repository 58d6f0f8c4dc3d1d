"""What people see in a terminal, where text that a model wrote must not be able to do anything."""

import unicodedata

UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that steer a terminal or hide in it."""


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
