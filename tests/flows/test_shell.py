"""`flywheel sql` without a query, as people type into it and as programs write to it; questions; what is refused."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import polars as pl
import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from flows.shell import Words, is_whole, statements
from storage.home import Home
from storage.lake import Lake
from storage.warehouse import QueryError, Warehouse, questions
from tests.flows.conftest import FLYWHEEL, Turned, without
from tests.storage.conftest import make_sample

EVIL = "\x1b[31mevil\x07\u202e"
ESCAPED = r"\x1b[31mevil\x07\u202e"
ENDLESS = "SELECT a.range FROM range(1000000000000) AS a WHERE hash(a.range) = 7;"
PROMPT = "flywheel>"
SENT = r"\x1b\[\?2004l"
"""What the shell tells the terminal when a text is typed."""
TIMEOUT_S = 60.0
OURS = questions(Home(Path("nowhere")))
OFTEN_WITHOUT_ROWS = {
    "rollbacks", "flipped_problems", "self_correction_lift", "alternative_proposal_lift", "tree_shapes",
    "value_calibration", "budgets",
}  # fmt: skip
"""Questions about what a small wheel may never do."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with two runs and an attempt that would like to paint the terminal."""
    home = Home.open(tmp_path / "home")
    lake = Lake(home)
    lake.seed()
    lake.publish("runs", "r1", [make_sample("runs", run_id="r1"), make_sample("runs", run_id="r2")])
    lake.publish("trajectories", "t1", [make_sample("trajectories", text=EVIL)])
    return home


@dataclass
class Terminal:
    """A terminal in which the shell runs: `Terminal(home).type("SELECT 1;\\r")`."""

    home: Home
    environ: dict[str, str] = field(default_factory=dict)
    seen: str = ""

    def __post_init__(self) -> None:
        self.end, other = pty.openpty()
        termios.tcsetwinsize(other, (24, 80))
        settings = {"FLYWHEEL_HOME": str(self.home.root), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = subprocess.Popen(
            [FLYWHEEL, "sql"],
            env=without("FORCE_COLOR", "PAGER", "LESS") | settings | self.environ,
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(other)

    def type(self, text: str) -> None:
        """Keys."""
        os.write(self.end, text.encode())

    def read_until(self, pattern: str) -> str:
        """What is shown up to this, and not looked at before."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (match := re.search(pattern, self.seen, re.DOTALL)):
            assert select.select([self.end], [], [], max(0, deadline - time.monotonic()))[0], repr(self.seen)
            self.seen += os.read(self.end, 65536).decode(errors="replace")
        shown, self.seen = self.seen[: match.end()], self.seen[match.end() :]
        return shown

    def ask(self, text: str, pattern: str) -> str:
        """What is shown after typing this, up to the next prompt."""
        self.type(text + "\r")
        return self.read_until(f"{pattern}.*{PROMPT}")

    def leave(self) -> int:
        """Ctrl-D; gives the exit status."""
        self.type("\x04")
        return self.process.wait(TIMEOUT_S)


@pytest.fixture
def terminal(home: Home) -> Iterator[Callable[..., Terminal]]:
    """Opens terminals with the shell, ready for typing."""
    opened = []

    def open_terminal(**environ: str) -> Terminal:
        opened.append(Terminal(home, environ))
        opened[-1].read_until(PROMPT)
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.process.kill()
        one.process.wait()
        os.close(one.end)


def follow(home: Home, text: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Statements on standard input."""
    environ = without("FORCE_COLOR") | {"FLYWHEEL_HOME": str(home.root)}
    return subprocess.run([FLYWHEEL, "sql", *arguments], input=text, env=environ, capture_output=True, text=True)


# On a terminal.


def test_a_statement_may_take_lines_and_ends_with_a_semicolon(terminal: Callable[..., Terminal]) -> None:
    shell = terminal()
    shown = shell.ask("SELECT run_id\rFROM runs ORDER BY run_id;", r"\(2 rows\)")
    assert re.findall(r" (r\d) ", shown) == ["r1", "r2"]
    assert shell.leave() == 0


def test_each_statement_sees_what_was_published_since(terminal: Callable[..., Terminal], home: Home) -> None:
    shell = terminal()
    for number in (2, 3):
        shell.ask("SELECT 'there are ' || count(*) AS n FROM runs;", f"there are {number}")
        Lake(home).publish("runs", "later", [make_sample("runs", run_id="later")])


def test_an_error_is_a_line_and_the_shell_goes_on(terminal: Callable[..., Terminal]) -> None:
    shell = terminal()
    assert "LINE 1" not in shell.ask("SELEC 1;", r'syntax error at or near "SELEC"\r\n')
    shell.ask(".nothing", r"there is no command \.nothing; \.help lists them\.")
    shell.ask("SELECT 6 * 7 AS answer;", " 42 ")
    assert shell.leave() == 0


def test_ctrl_c_ends_a_statement_that_runs_and_one_that_is_typed(terminal: Callable[..., Terminal]) -> None:
    shell = terminal()
    shell.type(ENDLESS + "\r")
    shell.read_until(SENT)
    time.sleep(2)
    began = time.monotonic()
    shell.type("\x03")
    shell.read_until(f"interrupted.*{PROMPT}")
    assert time.monotonic() - began < 10
    shell.type("SELECT oh\x03")
    shell.read_until(f"interrupted.*{PROMPT}")
    shell.ask("SELECT 6 * 7 AS answer;", " 42 ")
    assert shell.leave() == 0


def test_a_statement_that_takes_too_long_is_ended(terminal: Callable[..., Terminal]) -> None:
    shell = terminal()
    shell.ask(".timeout 0.2", SENT)
    shell.ask(ENDLESS, "It took longer than allowed")


def test_what_a_model_wrote_cannot_paint_the_terminal(terminal: Callable[..., Terminal]) -> None:
    shell = terminal(PAGER="cat")
    for form in ("table", "json", "csv"):
        shell.ask(f".format {form}", SENT)
        for column in ("text", "text::INT", "repeat(text, 9)"):
            shown = shell.ask(f"SELECT {column} FROM trajectories;", r"31mevil\S*202e")
            assert not re.search("\x1b\\[31m|\x07|\u202e", shown)
    assert shell.leave() == 0


def test_the_commands(terminal: Callable[..., Terminal], home: Home) -> None:
    home.queries.mkdir()
    (home.queries / "mine.sql").write_text("-- How many runs?\nSELECT 'mine: ' || count(*) AS n FROM runs")
    shell = terminal(PAGER="cat")
    shell.ask(".help", r"\.schema \[TABLE\] .* columns, their types")
    shell.ask(".tables", r"runs .*A number of rounds.*history .*One row a round")
    shell.ask(".schema champions", r"champions: Who is champion .*champion_id +VARCHAR +The checkpoint that search")
    shell.ask(".schema nobody", "there is no table nobody; expected one of problems")
    shell.ask(".queries", r"accuracy_by_round .*mine +How many runs\? \(yours\)")
    shell.ask(".run mine", "mine: 2")
    shell.ask(".run nobody", "there is no question 'nobody'")
    shell.ask(".run", r"expected \.run NAME\.")
    shell.ask(".format parquet", r"parquet is for files: .* > answer\.parquet")
    shell.ask(".format poem", "expected one of table, csv, json")
    shell.ask(".timeout soon", "found soon, expected a number of seconds")
    shell.type(".quit\r")
    assert shell.process.wait(TIMEOUT_S) == 0


def test_a_long_answer_goes_through_the_pager(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    shell = terminal(PAGER=f"tee {tmp_path / 'paged'}")
    shell.ask("SELECT 1 AS short;", r"\(1 row\)")
    assert not (tmp_path / "paged").exists()
    shell.ask("SELECT range AS n FROM range(100);", r"\(100 rows\)")
    assert " 99" in (tmp_path / "paged").read_text()
    shell.ask("SELECT repeat('wide', 40) AS w;", r"\(1 row\)")
    assert "wide" * 40 in (tmp_path / "paged").read_text()


def test_history_is_kept_for_its_owner(terminal: Callable[..., Terminal], home: Home) -> None:
    shell = terminal()
    shell.ask("SELECT 'kept'\rAS word;", r"\(1 row\)")
    assert shell.leave() == 0
    assert (home.root / "sql_history").stat().st_mode & 0o777 == 0o600
    again = terminal()
    again.ask("\x1b[A", r" kept ")


def test_tab_completes(terminal: Callable[..., Terminal]) -> None:
    shell = terminal(PAGER="cat")
    shell.type(".sch\t")
    shell.read_until("ema")
    shell.type(" champ\t")
    shell.read_until("ions")
    shell.ask("", "Who is champion of each line")


def test_completions(home: Home) -> None:
    words = Words(home)

    def complete(text: str) -> list[str]:
        return [completion.text for completion in words.get_completions(Document(text), CompleteEvent())]

    assert complete(".t") == [".tables", ".timeout"]
    assert complete(".run acc") == ["accuracy_by_difficulty", "accuracy_by_round"]
    assert complete(".format ") == ["table", "csv", "json"]
    assert complete("SELECT truncated_") == ["truncated_share"]
    assert complete("SELECT champions.") == ["line", "champion_id", "sequence"]
    assert complete("selec") == ["selections", "selection_id", "SELECT"]
    assert complete("FROM\n  promoti") == ["promotions", "promotion_id"]
    assert complete(".timeout ") == complete("nobody.x") == []


# From a program.


def test_statements_are_answered_in_turn(home: Home) -> None:
    done = follow(home, "SELECT 1 AS a;\n-- a comment; or two\nSELECT ';'\n  AS b;\nSELEC 3 AS c", "--format", "csv")
    assert (done.returncode, done.stdout, done.stderr) == (1, "a\n1\nb\n;\n", done.stderr)
    assert "syntax error" in done.stderr
    done = follow(home, "SELECT 1 AS a;\n.format json\nSELECT 2 AS b;;\n.quit\nSELECT 3 AS c", "--format", "csv")
    assert (done.returncode, done.stdout, done.stderr) == (0, 'a\n1\n[{"b":2}]\n', "")


def test_the_first_error_ends_it(home: Home) -> None:
    done = follow(home, "SELECT 1 AS a; DROP VIEW runs; SELECT 3 AS c;", "--format", "csv")
    assert (done.returncode, done.stdout) == (1, "a\n1\n")
    assert done.stderr == "flywheel: found a statement of type DROP, expected SELECT: the lake is only read here.\n"


def test_nothing_asked_is_nothing_answered(home: Home) -> None:
    done = follow(home, "-- only a comment\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_parquet_is_for_one_query(home: Home) -> None:
    done = follow(home, "SELECT 1", "--format", "parquet")
    assert (done.returncode, done.stdout) == (1, "") and "> answer.parquet" in done.stderr


def test_ctrl_c_ends_a_query_at_once(home: Home) -> None:
    environ = without("FORCE_COLOR") | {"FLYWHEEL_HOME": str(home.root)}
    query = subprocess.Popen([FLYWHEEL, "sql", ENDLESS], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    time.sleep(4)
    query.send_signal(signal.SIGINT)
    assert query.communicate(timeout=20)[0].decode().strip() == "Aborted!"


NESTED = (
    "SELECT {'a': 1, 'b': [1, 2]} AS s, [1, 2] AS l, MAP {'k': 2} AS m, 'ab'::BLOB AS b, ['ab'::BLOB] AS lb, NULL AS n"
)


def test_what_csv_and_json_cannot_hold_is_written_as_text(home: Home) -> None:
    csv = follow(home, NESTED, "--format", "csv")
    assert csv.returncode == 0, csv.stderr
    assert csv.stdout == ('s,l,m,b,lb,n\n"{""a"": 1, ""b"": [1, 2]}","[1, 2]","{""k"": 2}",6162,"[""6162""]",\n')
    (row,) = json.loads(follow(home, NESTED, "--format", "json").stdout)
    assert row == {"s": {"a": 1, "b": [1, 2]}, "l": [1, 2], "m": {"k": 2}, "b": "6162", "lb": '["6162"]', "n": None}


def test_memory_that_a_function_takes_for_itself_is_bounded(home: Home) -> None:
    done = follow(home, "SELECT length(repeat('a', 3000000000)); SELECT 2 AS b;", "--format", "csv")
    assert done.returncode == 1 and "Out of Memory" in done.stderr and "needs more memory than allowed" in done.stderr


def test_a_call_that_hears_no_interrupt_ends_with_its_process(home: Home) -> None:
    endless = "SELECT levenshtein(repeat('a', 10000000), repeat('b', 10000000));"
    done = follow(home, endless, "--timeout", "0.5")
    assert done.returncode == 1
    assert done.stderr == (
        "flywheel: one call in that statement took more than 0.5 s and cannot be stopped, so this ends.\n"
    )


def test_a_statement_ends_where_sql_says_so() -> None:
    text = ".tables\nSELECT 'a;b', \"c;\", $$d;$$ -- e;\n/* f; /* g; */ */;SELECT 2;\n .help\nSELECT 'é;\n.x'"
    assert list(statements(text.splitlines(keepends=True))) == [
        ".tables\n",
        "SELECT 'a;b', \"c;\", $$d;$$ -- e;\n/* f; /* g; */ */;",
        "SELECT 2;",
        " .help\n",
        "SELECT 'é;\n.x'",
    ]
    assert [is_whole(text) for text in ("SELECT 1", "SELECT ';", "SELECT 1;", "SELECT 1; -- x", "", ".help")] == [
        False, False, True, True, True, True,
    ]  # fmt: skip


# Questions.


@pytest.mark.parametrize("name", OURS)
def test_a_question_has_an_answer_on_a_turned_wheel(name: str, turned: Turned) -> None:
    answer = Warehouse(Home(turned.wheel.home)).ask(OURS[name].sql)
    assert answer.height or name in OFTEN_WITHOUT_ROWS


def test_a_run_publishes_what_other_tools_ask_the_same(turned: Turned) -> None:
    home = Home(turned.wheel.home)
    unanswered = []
    with duckdb.connect(home.published, read_only=True) as database:
        assert database.execute("SELECT max(round) FROM history").fetchall() == [(2,)]
        for name, question in OURS.items():
            try:
                database.execute(question.sql).fetchall()
            except duckdb.BinderException as error:
                assert "logprobs" in str(error)
                unanswered.append(name)
    assert unanswered == ["entropy_by_round", "sureness_of_right_and_wrong"]


def test_a_question_is_asked_by_its_name(home: Home) -> None:
    assert follow(home, "", "leakage", "--format", "csv").stdout.splitlines() == [
        "reserved_twice,searched,trained_on,same_question",
        "0,0,0,0",
    ]
    assert follow(home, "-- now\nleakage;\n", "--format", "csv").stdout.endswith("\n0,0,0,0\n")


def test_a_persons_own_question_wins_and_that_is_told(home: Home) -> None:
    home.queries.mkdir()
    (home.queries / "leakage.sql").write_text("SELECT 1 AS mine")
    (home.queries / "own-one.sql").write_text("-- Mine?\nSELECT 2 AS mine;")
    done = follow(home, "", "leakage", "--format", "csv")
    assert done.stdout == "mine\n1\n"
    assert done.stderr == f"leakage is your own here, from {home.queries}/leakage.sql, not the one that comes along.\n"
    assert follow(home, "", "own-one", "--format", "csv").stdout == "mine\n2\n"
    listed = follow(home, "", "--list").stdout
    assert re.search(r"^leakage +SELECT 1 AS mine \(yours, in the place of ours\)$", listed, re.MULTILINE)
    assert re.search(r"^own-one +Mine\? \(yours\)$", listed, re.MULTILINE)


def test_a_persons_own_question_may_do_no_more_than_another(home: Home) -> None:
    home.queries.mkdir()
    (home.queries / "greedy.sql").write_text("COPY runs TO '/tmp/x.csv'")
    assert "found a statement of type COPY" in follow(home, "", "greedy").stderr
    (home.queries / "broken.sql").write_bytes(b"\xff")
    assert "expected UTF-8 text" in follow(home, "", "--list").stderr


# Refusals.


@pytest.mark.parametrize(
    "sql",
    [
        "COPY runs TO 'x.csv'",
        "ATTACH 'x.db'",
        "PRAGMA database_list",
        "SELECT 1; SELECT 2",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '1TB'",
        "RESET memory_limit",
        "CREATE TABLE x AS SELECT 1",
        "INSERT INTO runs SELECT * FROM runs",
        "EXPORT DATABASE 'x'",
        "USE memory",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_parquet('/etc/*')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_blob('/proc/self/environ')",
        "SELECT * FROM '/proc/self/environ'",
        "SELECT * FROM read_parquet('{lake}/../*')",
        "SELECT * FROM read_parquet('{lake}/*/../../*.json')",
        "SELECT * FROM read_parquet('{lake}/**/../../home.json')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM glob('{lake}/runs/../../*')",
        "SELECT * FROM glob('~/*')",
        "SELECT * FROM read_parquet('{lake}/outside/home.json')",
        "SELECT * FROM '{lake}/runs/outside.parquet'",
        "SELECT * FROM read_parquet('{lake}/runs/outside.parquet')",
        "SELECT getenv('HOME')",
        "SELECT content FROM read_text(['{lake}/../home.json'])",
        "SELECT (SELECT content FROM read_text('/etc/hostname'))",
        "SELECT getvariable('runs')[1] FROM read_text('/etc/hostname')",
    ],
)
def test_what_is_not_reading_the_lake_is_refused(home: Home, tmp_path: Path, sql: str) -> None:
    secret = tmp_path / "secret.parquet"
    pl.DataFrame({"secret": [1]}).write_parquet(secret)
    (home.lake / "outside").symlink_to(home.root)
    (home.lake / "runs" / "outside.parquet").symlink_to(secret)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(QueryError):
        Warehouse(home).ask(sql.replace("{lake}", str(home.lake)))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_help_is_there_at_once() -> None:
    began = time.monotonic()
    subprocess.run([FLYWHEEL, "sql", "--help"], check=True, stdout=subprocess.DEVNULL)
    assert time.monotonic() - began < 5
