"""Progress for people: a live line in a terminal only, and a quiet line a stage everywhere."""

import io
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console

from flows.display import Display, open_console
from tasks.progress import Progress
from tasks.wording import minutes


def quiet_display() -> Display:
    """Writes into memory, as into a file. No fixture: held by one, DuckDB complains of leaks when Python ends."""
    return Display(console=Console(file=io.StringIO(), highlight=False, soft_wrap=True, width=200))


def written(display: Display) -> str:
    assert isinstance(display.console.file, io.StringIO)
    return display.console.file.getvalue()


def hear_search(display: Display) -> None:
    """Two shards of a search, as their tasks report them."""
    display.hear(Progress(stage="search", part=0, done=30, total=50, solved=60, tried=240, tokens=2400))
    display.hear(Progress(stage="search", part=1, done=20, total=50, solved=40, tried=160, tokens=1600))
    display.hear(Progress(stage="search", part=0, done=50, total=50, solved=100, tried=400, tokens=4000))


def test_a_stage_leaves_one_line_of_what_its_shards_did_together() -> None:
    display = quiet_display()
    with display:
        display.begin("round 3", "search", 100)
        hear_search(display)
        display.end()
    line = re.sub(r"[\d,]+ tokens/s in .*", "… tokens/s", written(display))
    assert line == "round 3  search     70 problems, 0.250 solved, … tokens/s\n"


def test_a_stage_that_did_nothing_leaves_no_line() -> None:
    display = quiet_display()
    with display:
        display.begin("round 3", "filter", None)
        display.end()
    assert written(display) == ""


def test_a_line_is_written_as_it_is() -> None:
    display = quiet_display()
    display.say("[bold] is no markup: 3 of [1, 2, 3]")
    assert written(display) == "[bold] is no markup: 3 of [1, 2, 3]\n"


def test_the_live_line_says_how_far_it_is() -> None:
    display = quiet_display()
    display.begin("round 3", "search", 100)
    assert str(display.draw()) == "round 3  search     …"
    hear_search(display)
    line = re.sub(r"[\d,]+ tokens/s, .* left", "… tokens/s, … left", str(display.draw()))
    bar = "━" * 17 + "╌" * 7
    assert line == f"round 3  search     {bar}  70% 70 problems, 0.250 solved, … tokens/s, … left"


def test_between_stages_the_live_line_is_empty() -> None:
    display = quiet_display()
    display.begin("round 3", "search", 100)
    hear_search(display)
    display.end()
    assert str(display.draw()) == ""


def test_training_shows_its_speed_and_the_mean_of_its_last_losses() -> None:
    display = quiet_display()
    display.begin("round 3", "finetune", None)
    for loss in (0.5, 0.3):
        display.hear(Progress(stage="finetune", done=600, total=1200, unit="tokens", loss=loss))
    assert re.sub(r"[\d,]+ tokens/s", "… tokens/s", display.counts()) == "600 tokens, … tokens/s, loss 0.400"


PROGRAM = """
from flows.display import Display
with Display() as display:
    display.begin("round 1", "search", 10)
    display.say("said")
"""


def test_what_is_no_terminal_gets_no_colours_even_when_they_are_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert open_console().is_terminal is False
    assert subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True).stdout == "said\n"


def test_a_terminal_gets_a_live_line_that_is_gone_at_the_end() -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    subprocess.run([sys.executable, "-c", PROGRAM], stdout=theirs, env=environment, check=True)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "round 1  search     …" in shown and "said" in shown
    assert shown.endswith("\x1b[2K")


def test_durations_are_told_in_a_fitting_unit() -> None:
    told = [minutes(seconds) for seconds in (0.44, 9, 44.4, 400, 12_600)]
    assert told == ["0.4 seconds", "9.0 seconds", "44 seconds", "7 minutes", "3.5 hours"]
