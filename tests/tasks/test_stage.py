"""Where a task's words go: what came of it to its log alone, a warning to people too."""

import logging

import pytest

from tasks.progress import Progress, heard_by
from tasks.stage import log, warn


class Ears:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def hear(self, progress: Progress) -> None: ...

    def say(self, text: str) -> None:
        self.said.append(text)


def test_only_a_warning_is_said_to_people(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "flywheel")
    with heard_by(ears := Ears()):
        log("24 problems")
        warn("0 are left")
    assert ears.said == ["0 are left"]
    assert caplog.record_tuples == [
        ("flywheel", logging.INFO, "24 problems"),
        ("flywheel", logging.WARNING, "0 are left"),
    ]


def test_outside_prefect_a_log_is_seen_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    log("24 problems")
    assert capfd.readouterr() == ("", "")
