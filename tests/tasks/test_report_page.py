"""The report: what it says, that hostile text stays text in it, and how it looks in a browser."""

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image, ImageColor

from flows.cli import flywheel
from storage.home import Home
from storage.overview import Overview, overview
from storage.records import Verdict
from tasks.page import TEXT_CHARS, page, write_report
from tasks.picture import CHAMPION, apart, draw, picture_png
from tasks.verdict import markdown, verdict
from tests.tasks.conftest import ATTEMPTS, LINE, Line

HOSTILE = "</style></div><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[2J\u202eevil"
TAME = r"</style></div><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[2J\u202eevil"
GROUND = {"light": "#f4f6f8", "dark": "#0d1014"}
CHANCE = "Uniform legal play solves 0.213, and brute force needs 8 walks a problem."


class Reader(HTMLParser):
    """A page as a browser reads it: its tags with their attributes, its text, and the cells of its table rows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.is_in_row = False
        self.feed(html)
        self.rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
            self.is_in_row = True
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        self.handle_data(" ")

    def handle_endtag(self, tag: str) -> None:
        self.is_in_row &= tag != "tr"
        self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.is_in_row and self.rows[-1]:
            self.rows[-1][-1] += data


def turn_three(home: Home) -> Line:
    """A start, a round that promotes, one that refuses, and the claim on final problems."""
    line = Line(home)
    line.turn(0, 200)
    line.turn(1, 400)
    line.turn(2, 380, promoted=False)
    line.evaluate("c0", 2, "final", 190)
    line.evaluate("c1", 2, "final", 410)
    return line


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Overview:
    home = Home.open(tmp_path_factory.mktemp("three"))
    turn_three(home)
    return overview(home)


def invoke(home: Home, *arguments: str) -> Any:
    """The command, in this process."""
    return CliRunner().invoke(flywheel, ["report", *arguments], env={"FLYWHEEL_HOME": str(home.root)})


# What it says.


def test_the_verdict_is_the_claim_on_final_problems_and_then_the_benchmark(seen: Overview) -> None:
    assert verdict(seen) == [
        "On the final problems, which nothing was trained or chosen on, the policy went from "
        f"0.190 (95 % 0.167 to 0.215, 1,000 problems) to 0.410 (95 % 0.380 to 0.441, 1,000 problems). {CHANCE}",
        "On the benchmark problems, which chose the champions, the policy went from "
        f"0.200 (95 % 0.176 to 0.226, 1,000 problems) to 0.400 (95 % 0.370 to 0.431, 1,000 problems). {CHANCE}",
    ]
    assert all(sentence in Reader(page(seen)).text for sentence in verdict(seen))


def test_each_accuracy_stands_with_its_interval_its_problems_and_chance(seen: Overview) -> None:
    measured = [row[:7] for row in Reader(page(seen)).rows if row[0].isdigit() and " to " in row[3]]
    assert measured == [
        ["0", "c0", "0.200", "0.176 to 0.226", "1,000", "0.213", "8"],
        ["1", "c1", "0.400", "0.370 to 0.431", "1,000", "0.213", "8"],
        ["2", "c2", "0.380", "0.350 to 0.410", "1,000", "0.213", "8"],
        ["0", "c0", "0.190", "0.167 to 0.215", "1,000", "0.213", "8"],
        ["1", "c1", "0.410", "0.380 to 0.441", "1,000", "0.213", "8"],
    ]


def test_rounds_stages_filter_attempts_and_lineage_are_told(seen: Overview) -> None:
    rows = Reader(page(seen)).rows
    for row in [
        ["0", "c0", "0.200", "0.176 to 0.226", "1,000", "0.213", "8", "0.900", "–", "promoted c0 was asked"],
        ["2", "c2", "0.380", "0.350 to 0.410", "1,000", "0.213", "8", "0.900", "0.500", "refused c2 was asked"],
        ["round", "sample", "initialize", "search", "finetune", "evaluate", "whole round", ""],
        ["0", "", "61 7,000", "", "", "– 9,000", "61", ""],
        ["2", "1.0", "", "40 80", "56 7,000", "– 9,000", "96", ""],
        ["made in round", "kept", "duplicate", "wrong", "unparsed", "attempts"],
        ["all", "2", "2", "2", "2", "8"],
        ["4 7 26>15;", "26-4=22,7;22-7=15;", "solved", "kept", "20"],
        ["4 7 26>15;", "4+7=11,", "unparsed", "wrong", "20"],
        ["1", "c1", "c0", "cloning", "0", "7,000", "0.000", "0.0"],
        ["0", "c0", "–", "initialization", "0", "7,000", "0.000", "0.0"],
    ]:
        assert row in rows


def test_a_home_with_the_initial_policy_alone_has_a_report(home: Home) -> None:
    Line(home).turn(0, 200)
    assert verdict(overview(home)) == [
        "On the benchmark problems, which chose the champions, the champion, which is the initial policy, solves "
        f"0.200 (95 % 0.176 to 0.226, 1,000 problems). {CHANCE}"
    ]
    assert "No attempt was filtered yet." in page(overview(home))
    assert picture_png(overview(home).rounds)


def test_what_is_not_known_is_left_out(home: Home) -> None:
    unknown = {"chance": None, "brute_force": None, "pass_at_8": None, "num_pass_problems": 0}
    Line(home).turn(0, 200, **unknown)
    seen = overview(home)
    assert "uniform" not in verdict(seen)[0].lower() and "None" not in page(seen) + markdown(seen)
    assert [text.get_text() for text in draw(seen.rounds).axes[0].texts][2:] == ["champion 0.200"]


def test_a_champion_made_between_rounds_is_the_champion(home: Home) -> None:
    line = turn_three(home)
    line.decide(line.make(2, "c1", 450, name="retrained"), 2, Verdict.PROMOTED)
    line.decide("c0", 2, Verdict.ROLLED_BACK, by="ada", reason="it guesses")
    assert [row["champion_accuracy"] for row in overview(home).rounds] == [0.2, 0.4, 0.2]
    line.decide("retrained2", 2, Verdict.ROLLED_BACK, by="ada", reason="it did not")
    seen = overview(home)
    assert verdict(seen)[-1].startswith("On the benchmark problems") and " to 0.450 (95 %" in verdict(seen)[-1]
    assert [row.checkpoint_id for row in seen.lineage] == ["retrained2", "c1", "c0"]
    others = [row for row in Reader(page(seen)).rows if len(row) == 9 and row[7] in ("gate", "ada")]
    assert [row[7:] for row in others] == [
        ["gate", "promoted retrained2 was asked"],
        ["ada", "rolled back it guesses"],
        ["ada", "rolled back it did not"],
    ]


def test_what_belongs_to_a_round_that_is_not_closed_is_not_told(home: Home) -> None:
    line = turn_three(home)
    before = page(overview(home))
    line.search(3, "c1")
    line.decide(line.make(3, "c1", 500), 3, Verdict.PROMOTED)
    assert page(overview(home)) == before


# Hostile text.


def test_hostile_text_stays_text_and_shows_what_it_hides(home: Home) -> None:
    line = Line(home, config=json.dumps({"prompt": HOSTILE}))
    line.turn(0, 200)
    line.turn(1, 400, prompt=HOSTILE, attempts=[*ATTEMPTS, (HOSTILE, "error", "wrong")])
    line.decide("c0", 1, Verdict.ROLLED_BACK, by=HOSTILE, reason=HOSTILE)
    written = page(overview(home))
    read = Reader(written)
    assert {"script", "img"}.isdisjoint(tag for tag, _ in read.tags)
    assert sum(TAME in cell for row in read.rows for cell in row) == 5 + 1 + 2  # prompts, a text, a person and a reason
    assert "\x1b" not in written and "\u202e" not in written


def test_a_long_text_is_cut_short(home: Home) -> None:
    line = Line(home)
    line.turn(0, 200)
    line.turn(1, 400, attempts=[("9" * 100_000, "truncated", "wrong")])
    assert f"{'9' * TEXT_CHARS}… (100,000 characters)" in page(overview(home))


def test_the_page_needs_and_runs_nothing_from_elsewhere(seen: Overview) -> None:
    written = page(seen)
    tags = Reader(written).tags
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": policy}) in tags
    assert {"script", "iframe", "object", "embed", "form", "base", "a"}.isdisjoint(tag for tag, _ in tags)
    values = [(name, value or "") for _, attributes in tags for name, value in attributes.items()]
    assert [name for name, _ in values if name.startswith("on")] == []
    assert all(value.startswith(("#", "data:")) for name, value in values if name in ("src", "href", "xlink:href"))
    assert set(re.findall(r"https?://[^\"' <]*", written)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert set(re.findall(r"url\(.", written)) <= {"url(#"} and "@import" not in written


def test_markdown_shows_hostile_text_as_it_is(home: Home) -> None:
    line = Line(home)
    line.turn(0, 200, reason="a|b <b> [x](y) `c` \x1b")
    assert markdown(overview(home)).splitlines()[-1] == (
        "| 0 | 0.200 | 0.176 to 0.226 | 1,000 | 0.213 | 8 walks |  "
        "| promoted: a&#124;b &#60;b&#62; &#91;x&#93;(y) &#96;c&#96; &#92;x1b |"
    )


# The picture.


def test_the_picture_names_its_lines_where_they_end(seen: Overview) -> None:
    title, marks, *labels = [text.get_text() for text in draw(seen.rounds).axes[0].texts]
    assert (title, marks) == ("Accuracy on 1,000 benchmark problems, with 95 % intervals", "● took over   ○ refused")
    assert labels == ["uniform legal play 0.213", "champion 0.400", "solved in search 0.500", "pass@8 0.900"]


def test_the_picture_fills_the_marks_of_those_who_took_over(seen: Overview) -> None:
    marks = [line for line in draw(seen.rounds).axes[0].lines if line.get_marker() == "o"]
    assert [line.get_xydata().tolist() for line in marks] == [[[0, 0.2]], [[1, 0.4]], [[2, 0.38]]]
    assert [line.get_markerfacecolor() for line in marks] == [CHAMPION, CHAMPION, "white"]


def test_labels_keep_apart() -> None:
    assert apart([0.1, 0.5, 0.51, 0.52, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.6, 0.7, 0.9])


# The files.


def test_the_same_line_gives_the_same_files_while_another_process_writes(home: Home) -> None:
    turn_three(home)
    with home.writer():
        paths = write_report(home)
        first = [path.read_bytes() for path in paths]
        assert [path.read_bytes() for path in write_report(home)] == first
    assert paths == (home.report / "report.html", home.report / "report.png")
    assert sorted(home.report.iterdir()) == sorted(paths)
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o600, 0o600]
    assert first[1].startswith(b"\x89PNG")


def test_the_page_goes_where_it_is_asked_to_and_the_picture_beside_it(home: Home, tmp_path: Path) -> None:
    turn_three(home)
    done = invoke(home, "--output", str(tmp_path / "new.html"))
    assert done.stdout == f"{tmp_path}/new.html\n{tmp_path}/new.png\n"
    assert "c1" in (tmp_path / "new.html").read_text() and (tmp_path / "new.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("missing/a.html", "there is no folder {}/missing; make it"),
        ("a.png", "a.png is what the picture would be called"),
    ],
)
def test_a_page_that_cannot_be_there_is_told(home: Home, tmp_path: Path, output: str, message: str) -> None:
    turn_three(home)
    refused = invoke(home, "--output", str(tmp_path / output))
    assert refused.exit_code == 1 and refused.stderr.startswith(f"flywheel: {message.format(tmp_path)}")


def test_a_home_without_a_closed_round_is_told_what_to_do(home: Home) -> None:
    Line(home)
    refused = invoke(home)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == (
        f"flywheel: no round of {home.root} is closed yet: nothing to report. `flywheel run` turns the wheel.\n"
    )


def test_it_is_shown_in_the_browser_where_there_is_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    turn_three(home)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: not opened.append(url))
    assert invoke(home, "--open").exit_code == 0
    assert opened == [(home.report / "report.html").as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert "open the page by hand" in invoke(home, "--open").stderr


# A browser.


def browse(path: Path, profile: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Headless Chromium on a file; its console goes to standard error."""
    quiet = ["gpu", "quic", "background-networking", "component-update", "sync"]
    command = ["chromium", "--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    more = [
        f"--user-data-dir={profile}",
        "--enable-logging=stderr",
        "--window-size=1000,1600",
        *arguments,
        path.as_uri(),
    ]
    return subprocess.run([*command, *more], capture_output=True, text=True, check=True, timeout=120)


@pytest.mark.slow
@pytest.mark.needs("chromium")
@pytest.mark.parametrize(("scheme", "number"), [("dark", 0), ("light", 1)])
def test_a_browser_shows_it_and_complains_of_nothing(home: Home, tmp_path: Path, scheme: str, number: int) -> None:
    line = turn_three(home)
    line.turn(3, 500, attempts=[(HOSTILE, "solved", "kept")])
    path, _ = write_report(home)
    screenshot = tmp_path / "page.png"
    prefer = f"--blink-settings=preferredColorScheme={number}"
    shown = browse(path, tmp_path / "shown", prefer, f"--screenshot={screenshot}")
    read = browse(path, tmp_path / "read", prefer, "--dump-dom")
    assert "CONSOLE" not in shown.stderr + read.stderr
    assert f"Flywheel report: {LINE}" in read.stdout and not re.search("<(script|img)", read.stdout)
    with Image.open(screenshot) as image:
        pixels = image.convert("RGB")
    assert pixels.size == (1000, 1600)
    assert pixels.getpixel((2, 2)) == ImageColor.getrgb(GROUND[scheme])  # its style was applied
    colours = pixels.crop((0, 330, 1000, 900)).getcolors(1_000_000)
    assert sum(count for count, colour in colours if max(colour) - min(colour) > 80) > 1_000  # its picture was drawn


@pytest.mark.slow
@pytest.mark.needs("chromium")
def test_a_browser_would_complain_of_what_the_policy_forbids(home: Home, tmp_path: Path) -> None:
    turn_three(home)
    path, _ = write_report(home)
    path.write_text(path.read_text().replace("</main>", "<script>document.title = 'run'</script></main>"))
    read = browse(path, tmp_path / "profile", "--dump-dom")
    assert "CONSOLE" in read.stderr and "<title>run" not in read.stdout


def test_trees_unfold_with_the_kept_path_open_and_hostile_steps_as_text(home: Home) -> None:
    line = turn_three(home)
    hostile = "<img src=x onerror=alert(1)>\x1b[31m;"
    ids = {"problem_id": "2-0", "round": 2, "strategy": "mcts(90 tokens)"}
    line.add("trajectories", trajectory_id="t0", sample=0, solved=True, reason="solved", **ids)
    steps = [
        ("root", "", 0, "", "step", 3, True),
        ("a", "root", 1, "26-4=22,7;", "step", 2, True),
        ("b", "a", 2, "22-7=15;", "end", 1, True),
        ("c", "root", 1, hostile, "length", 1, False),
    ]
    for step, parent, depth, text, stop_reason, visits, is_kept in steps:
        line.add(
            "steps", step_id=step, parent_id=parent, depth=depth, text=text, stop_reason=stop_reason, visits=visits,
            is_kept=is_kept, trajectory_id="t0" if step == "b" else "", draws=1, value=0.5, num_tokens=10, prior=0.5,
            **ids,
        )  # fmt: skip
    html = page(overview(home))
    tree = html[html.index('<details class="planted">') : html.index("The champion’s lineage")]
    assert "mcts(90 tokens): 3 steps, 40 tokens" in tree
    assert tree.index("26-4=22,7;") < tree.index("22-7=15;") < tree.index("&lt;img src=x")
    assert "<img" not in tree and "\x1b" not in tree and "\\x1b[31m" in tree
    assert tree.count("<details open>") == 1 and tree.count('class="step kept"') == 2
    assert '<span class="badge good">solved</span>' in tree and '<span class="badge bad">length</span>' in tree


def test_a_line_that_grew_no_trees_shows_none(home: Home) -> None:
    turn_three(home)
    assert "Some trees of round" not in page(overview(home))
