"""The lens: what it shows, what it refuses, what it stands."""

import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from storage.home import Home, HomeError
from storage.lake import Lake
from storage.records import TABLES, Verdict
from storage.warehouse import VIEWS, QueryError, Warehouse, named_queries, named_sql

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
READER = """
import sys
from pathlib import Path
from storage.home import Home
from storage.warehouse import Warehouse
while True:
    print(Warehouse(Home(Path(sys.argv[1]))).ask("SELECT count(*) FROM runs").item(), flush=True)
"""


def test_an_empty_lake_has_every_table_and_view(warehouse: Warehouse) -> None:
    for name in (*TABLES, *VIEWS):
        assert warehouse.query(f"SELECT * FROM {name}").height == 0, name
        assert warehouse.ask(f"SELECT * FROM {name}").height == 0, name


def test_every_column_is_described(warehouse: Warehouse) -> None:
    described = warehouse.describe()
    assert described["table"].unique(maintain_order=True).to_list() == [*TABLES, *VIEWS]
    assert described.filter(pl.any_horizontal(pl.col("about", "text").is_null())).is_empty()


def test_times_are_utc_and_lists_are_lists(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    lake.publish("trajectories", "a", [sample("trajectories", token_ids=[1, 2], behaviours=["x"], created_at=NOON)])
    answer = warehouse.query("SELECT created_at, token_ids, behaviours FROM trajectories")
    assert answer.rows() == [(NOON, [1, 2], ["x"])]
    assert answer.schema == {
        "created_at": pl.Datetime("us", "UTC"),
        "token_ids": pl.List(pl.Int32),
        "behaviours": pl.List(pl.String),
    }


def test_a_part_is_seen_as_soon_as_it_is_published(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    for number in range(3):
        lake.publish("runs", f"r{number}", [sample("runs", run_id=f"r{number}")])
        assert warehouse.query("SELECT count(*) AS n FROM runs")["n"].item() == number + 1


def test_parts_without_a_newer_column_show_it_as_null(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    lake.publish("runs", "new", [sample("runs", run_id="new", version="2")])
    old = pl.read_parquet(lake.path("runs", "new")).drop("version").with_columns(run_id=pl.lit("old"))
    old.write_parquet(lake.path("runs", "old"))
    answer = warehouse.query("SELECT run_id, version FROM runs ORDER BY run_id")
    assert answer.rows() == [("new", "2"), ("old", None)]


def test_drafts_in_the_lake_are_not_read(lake: Lake, warehouse: Warehouse) -> None:
    (lake.home.lake / "runs" / "half.parquet.tmp").write_bytes(b"PAR1")
    assert warehouse.query("SELECT * FROM runs").height == 0


def test_a_home_with_a_strange_name_is_read(tmp_path: Path, sample: Any) -> None:
    lake = Lake(Home.open(tmp_path / "a [b]*?'q"))
    lake.seed()
    lake.publish("runs", "r1", [sample("runs", run_id="r1")])
    (tmp_path / "link").symlink_to(lake.home.root)
    for root in (lake.home.root, tmp_path / "link"):
        assert Warehouse(Home(root)).ask("SELECT run_id FROM runs").rows() == [("r1",)]


def test_a_lake_without_tables_is_told(home: Home) -> None:
    with pytest.raises(HomeError, match="has no table problems yet; `flywheel run` makes it"):
        Warehouse(home).query("SELECT 1")


def test_the_home_of_an_older_version_is_read_before_a_run_adds_what_it_lacks(
    lake: Lake, warehouse: Warehouse, sample: Any
) -> None:
    lake.publish("runs", "a", [sample("runs", run_id="r1")])
    (seed,) = (lake.home.lake / "runs").glob("seed-*")
    pl.read_parquet(seed).drop("kind").write_parquet(seed.with_name("seed-0123456789abcdef.parquet"))
    seed.unlink()
    shutil.rmtree(lake.home.lake / "picks")
    assert warehouse.query("SELECT run_id, kind FROM runs").height == 1
    assert warehouse.query("SELECT * FROM picks").height == 0


def test_the_home_of_an_older_version_that_cannot_be_written_is_told(lake: Lake, warehouse: Warehouse) -> None:
    shutil.rmtree(lake.home.lake / "picks")
    (lake.home.lake / "picks").touch()
    with pytest.raises(HomeError, match=r"made by another version and lacks picks of this one, .*Open the home once"):
        warehouse.query("SELECT 1")


def test_the_last_row_of_a_run_is_its_state(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    lake.publish("runs", "a", [sample("runs", run_id="r1", state="running", created_at=NOON)])
    lake.publish("runs", "b", [sample("runs", run_id="r2", state="running", created_at=NOON)])
    lake.publish("runs", "c", [sample("runs", run_id="r1", state="finished", created_at=NOON + timedelta(seconds=1))])
    answer = warehouse.query("SELECT run_id, state FROM current_runs ORDER BY run_id")
    assert answer.rows() == [("r1", "finished"), ("r2", "running")]


def test_the_last_decision_on_a_trajectory_counts(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    decisions = [("t1", 1, "kept"), ("t2", 1, "kept"), ("t1", 3, "over_limit"), ("t1", 2, "duplicate")]
    for number, (trajectory, made, reason) in enumerate(decisions):
        row = sample("selections", trajectory_id=trajectory, round=made, reason=reason)
        lake.publish("selections", str(number), [row])
    answer = warehouse.query("SELECT trajectory_id, round, reason FROM current_selections ORDER BY trajectory_id")
    assert answer.rows() == [("t1", 3, "over_limit"), ("t2", 1, "kept")]


def test_the_highest_sequence_says_who_is_champion(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    for line, sequence, champion in [("a", 0, "c0"), ("a", 10, "c2"), ("a", 9, "c1"), ("b", 0, "d0")]:
        row = sample("promotions", line=line, sequence=sequence, champion_id=champion, verdict=Verdict.PROMOTED)
        lake.publish("promotions", f"{line}-{sequence}", [row])
    assert warehouse.query("FROM champions ORDER BY line").rows() == [("a", "c2", 10), ("b", "d0", 0)]


def test_history_has_a_row_a_round_with_the_gates_evaluation(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    measured = {"accuracy": 0.5, "low": 0.4, "high": 0.6, "num_problems": 8, "mean_tokens": 9.0, "truncated_share": 0.1}
    optional = {"pass_at_8": 0.9, "entropy": 0.3, "chance": 0.2}
    evaluations = [
        sample("evaluations", checkpoint_id="c1", split="benchmark", created_at=NOON, **measured, **optional),
        sample("evaluations", checkpoint_id="c1", split="benchmark", created_at=NOON + timedelta(hours=1)),
        sample("evaluations", checkpoint_id="c1", split="final", created_at=NOON),
        sample("evaluations", checkpoint_id="c0", split="benchmark", created_at=NOON, **measured),
    ]
    common = {"line": "main", "reason": "why", "seconds": 7.0, "num_tokens": 99}
    rounds = [
        sample("rounds", round=1, candidate_id="c1", champion_id="c1", promoted=True, **common),
        sample("rounds", round=0, candidate_id="c0", champion_id="c0", **common),
    ]
    lake.publish("evaluations", "a", evaluations)
    lake.publish("rounds", "a", rounds)
    history = warehouse.query("FROM history")
    assert history.rows(named=True) == [
        {
            "round": 0, "line": "main", "candidate": "c0", "champion": "c0", "accuracy": 0.5, "low": 0.4, "high": 0.6,
            "num_problems": 8, "promoted": False, "reason": "why", "seconds": 7.0, "tokens": 99, "pass_at_8": None,
            "mean_tokens": 9.0, "truncated_share": 0.1, "entropy": None, "chance": None,
            "brute_force": None,
        },
        {
            "round": 1, "line": "main", "candidate": "c1", "champion": "c1", "accuracy": 0.5, "low": 0.4, "high": 0.6,
            "num_problems": 8, "promoted": True, "reason": "why", "seconds": 7.0, "tokens": 99, "pass_at_8": 0.9,
            "mean_tokens": 9.0, "truncated_share": 0.1, "entropy": 0.3, "chance": 0.2,
            "brute_force": None,
        },
    ]  # fmt: skip


@pytest.mark.parametrize(
    "sql",
    [
        "FROM runs",
        "SELECT 1;",
        "-- a comment\nSELECT 1",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "WITH RECURSIVE a AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM a WHERE n < 3) FROM a",
        "SELECT 1 UNION SELECT 2",
        "VALUES (1)",
        "DESCRIBE runs",
        "SUMMARIZE runs",
        "SHOW TABLES",
        "PIVOT runs ON state IN ('running') USING count(*)",
        "SELECT 'COPY', 1 AS copy",
        """SELECT '"type":"COPY_QUERY_NODE"'""",
    ],
)
def test_a_person_may_read(warehouse: Warehouse, sql: str) -> None:
    assert warehouse.ask(sql).width > 0


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "found 0 statements, expected one SELECT"),
        ("SELECT 1; SELECT 2", "found 2 statements, expected one SELECT"),
        ("SELECT 1; DROP VIEW runs", "found 2 statements, expected one SELECT"),
        ("COPY runs TO '{lake}/x.csv'", "type COPY, expected SELECT"),
        ("ATTACH '{lake}/x.db'", "type ATTACH, expected SELECT"),
        ("PRAGMA version", "type PRAGMA, expected SELECT"),
        ("INSTALL httpfs", "type LOAD, expected SELECT"),
        ("SET threads = 9", "type SET, expected SELECT"),
        ("CALL enable_logging()", "type CALL, expected SELECT"),
        ("CREATE TABLE x AS SELECT 1", "type CREATE, expected SELECT"),
        ("DROP VIEW runs", "type DROP, expected SELECT"),
        ("EXPLAIN ANALYZE SELECT 1", "type EXPLAIN, expected SELECT"),
        ("WITH a AS (COPY (SELECT 1) TO '{lake}/x.csv') SELECT * FROM a", "a SELECT that writes"),
        ("DESCRIBE WITH a AS (COPY (SELECT 1) TO '{lake}/x.csv') FROM a", "a SELECT that writes"),
        ("FROM (WITH a AS (COPY (SELECT 1) TO '{lake}/x.csv') FROM a)", "a SELECT that writes"),
        ("WITH a AS (DELETE FROM runs RETURNING *) FROM a", "a SELECT that writes"),
        ("FROM query('WITH a AS (COPY (SELECT 1) TO ''{lake}/x.csv'') FROM a')", "found query\\(\\) after FROM"),
        ("FROM query('COPY (SELECT 1) TO ''{lake}/x.csv''')", "found query\\(\\) after FROM"),
        (
            "FROM json_execute_serialized_sql(json_serialize_sql("
            "'WITH a AS (COPY (SELECT 1) TO ''{lake}/x.csv'') SELECT 1'))",
            "found json_execute_serialized_sql\\(\\) after FROM",
        ),
        ("SELECT (SELECT max(x) FROM query('SELECT 1 AS x'))", "found query\\(\\) after FROM"),
        ("FROM duckdb_settings()", "found duckdb_settings\\(\\) after FROM"),
        ("FROM read_text('/etc/passwd')", "found read_text\\(\\) after FROM"),
        ("FROM read_parquet('/etc/passwd')", "Only the tables of the lake can be read here"),
        ("FROM read_text('{lake}/../home.json')", "found read_text\\(\\) after FROM"),
        ("FROM read_parquet('{lake}/../home.json')", "Only the tables of the lake can be read here"),
        ("FROM read_text('{lake}/escape/home.json')", "found read_text\\(\\) after FROM"),
        ("FROM read_parquet('{lake}/escape/home.json')", "Only the tables of the lake can be read here"),
        ("FROM glob('/etc/*')", "Only the tables of the lake can be read here"),
        ("FROM glob('{lake}/../*')", "Only the tables of the lake can be read here"),
        ("FROM '/etc/passwd'", "There are the tables problems, "),
        ("FROM read_parquet('https://example.com/x.parquet')", "Only the tables of the lake can be read here"),
        (
            "FROM enable_logging(storage = 'file', storage_path = '{lake}/x.log')",
            "found enable_logging\\(\\) after FROM",
        ),
        ("FROM enable_profiling(save_location = '{lake}/x.json')", "found enable_profiling\\(\\) after FROM"),
        ("FROM Path", "There are the tables .* and the views current_runs"),
        ("SELECT runid FROM runs", 'Referenced column "runid" not found'),
        ("SELEC 1", "syntax error"),
        ("SELECT $name", "Values were not provided for the following parameters: name"),
        ("SELECT [INTERVAL 1 DAY] AS spans", "the column spans holds intervals within list.*cast them to VARCHAR"),
    ],
)
def test_a_person_may_do_nothing_else(lake: Lake, warehouse: Warehouse, sql: str, message: str) -> None:
    (lake.home.lake / "escape").symlink_to(lake.home.root)
    before = sorted(lake.home.root.rglob("*"))
    with pytest.raises(QueryError, match=message):
        warehouse.ask(sql.replace("{lake}", str(lake.home.lake)))
    assert sorted(lake.home.root.rglob("*")) == before


def test_intervals_are_told_in_words(warehouse: Warehouse) -> None:
    sql = "SELECT TIMESTAMP '2026-01-02 03:00' - TIMESTAMP '2026-01-01', INTERVAL 14 MONTHS, NULL::INTERVAL"
    assert warehouse.ask(sql).row(0) == ("1 day, 3:00:00", "14 months, 0:00:00", None)


def test_an_endless_query_is_stopped(warehouse: Warehouse) -> None:
    began = time.monotonic()
    with pytest.raises(QueryError, match="narrow it with WHERE or LIMIT"):
        warehouse.ask("SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c", timeout_s=0.2)
    assert time.monotonic() - began < 5


def test_an_endless_answer_is_stopped(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.warehouse.LARGEST_ANSWER_BYTES", 1_000_000)
    with pytest.raises(QueryError, match="the answer is larger than 1 MB"):
        warehouse.ask("FROM range(1000000000000)")


def test_memory_is_bounded(warehouse: Warehouse) -> None:
    with pytest.raises(QueryError, match=r"^Out of Memory Error: .*\nIt needs more memory than allowed: [^\n]*$"):
        warehouse.ask("SELECT count(DISTINCT hash(range)) FROM range(100000000)", max_memory="50MB")


def test_only_the_rows_asked_for_are_read(warehouse: Warehouse) -> None:
    assert warehouse.ask("SELECT range AS n FROM range(1000000000000)", max_rows=3)["n"].to_list() == [0, 1, 2]
    assert warehouse.ask("SELECT 1 AS n", max_rows=3).rows() == [(1,)]
    assert warehouse.ask("SELECT 1 AS n", max_rows=0).height == 0


def test_columns_of_one_name_are_numbered(warehouse: Warehouse) -> None:
    assert warehouse.ask("SELECT 1 AS a, 2 AS b, 3 AS a").to_dict(as_series=False) == {"a": [1], "b": [2], "a_1": [3]}


def test_an_unknown_named_query_lists_the_others(warehouse: Warehouse) -> None:
    with pytest.raises(QueryError, match=r"there is no query 'nothing'; expected one of .*training_set"):
        warehouse.named("nothing")
    with pytest.raises(QueryError, match=r"there is no query '../sql/describe'"):
        warehouse.named("../sql/describe")


def test_a_missing_or_excess_parameter_is_told(warehouse: Warehouse) -> None:
    with pytest.raises(QueryError, match="Values were not provided for the following parameters: ids"):
        warehouse.named("problems_by_id")
    with pytest.raises(QueryError, match="excess parameters: mood"):
        warehouse.named("problems_by_id", ids=[], mood="good")


@pytest.mark.parametrize("name", named_queries())
def test_every_named_query_says_what_it_answers_and_its_parameters(name: str) -> None:
    lines = named_sql(name).splitlines()
    header = list(takewhile(lambda line: line.startswith("--"), lines))
    assert header
    assert set(re.findall(r"\$\w+", "\n".join(header))) == set(re.findall(r"\$\w+", "\n".join(lines[len(header) :])))


def test_another_process_reads_while_parts_appear(lake: Lake, sample: Any) -> None:
    reader = subprocess.Popen([sys.executable, "-c", READER, str(lake.home.root)], stdout=subprocess.PIPE, text=True)
    assert reader.stdout
    seen = [int(reader.stdout.readline())]
    for number in range(200):
        lake.publish("runs", f"r{number}", [sample("runs")])
    while seen[-1] < 200:
        seen.append(int(reader.stdout.readline()))
    reader.kill()
    reader.wait()
    assert seen == sorted(seen)


@pytest.mark.slow
def test_a_small_question_is_answered_at_once_over_thousands_of_parts(lake: Lake, sample: Any) -> None:
    for number in range(2500):
        lake.publish("trajectories", str(number), [sample("trajectories")] * 16)
    Warehouse(lake.home).ask("FROM history")
    began = time.process_time()
    Warehouse(lake.home).ask("FROM history")
    assert time.process_time() - began < 0.3
    assert Warehouse(lake.home).ask("SELECT count(*) AS n FROM trajectories").item() == 40_000


# Questions whose answers are worked out.


def attempt(lake: Lake, sample: Any, problem: str, marks: str) -> None:
    """An attempt a mark: `+` solved, `-` not, `P` and `M` the same with a self-correction."""
    rows = [
        sample(
            "trajectories",
            trajectory_id=f"{problem}{number}",
            problem_id=problem,
            round=1,
            solved=mark in "+P",
            text_digest=mark,
            behaviours=["self_correction"] if mark in "PM" else [],
        )
        for number, mark in enumerate(marks)
    ]
    lake.publish("trajectories", problem, rows)


def test_a_lift_is_compared_within_problems_that_have_both(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    for problem, marks in {"easy": "PP+-", "hard": "PM--", "all": "PPP", "none": "----"}.items():
        attempt(lake, sample, problem, marks)
    (answer,) = warehouse.named("questions/self_correction_lift").to_dicts()
    assert answer == {
        "round": 1, "problems": 2, "attempts_with": 4, "solved_with": 0.75, "solved_without": 0.25, "lift": 0.5,
        "plus_or_minus": 0.0,
    }  # fmt: skip


def test_fewer_attempts_are_reckoned_without_bias(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    attempt(lake, sample, "a", "+---")
    attempt(lake, sample, "b", "++--")
    found = {row["attempts"]: row["solved"] for row in warehouse.named("questions/solved_by_attempts").to_dicts()}
    assert found == pytest.approx({1: 3 / 8, 2: (1 / 2 + 5 / 6) / 2, 4: 1})


def test_a_solution_is_new_once(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    for number, digests in {1: "aab", 2: "abc", 3: "c"}.items():
        rows = [
            sample("trajectories", problem_id="p", round=number, solved=True, text_digest=digest) for digest in digests
        ]
        lake.publish("trajectories", str(number), rows)
    found = [
        (row["solved"], row["distinct_solutions"], row["new_solutions"], row["pool"])
        for row in warehouse.named("questions/new_solutions_by_round").to_dicts()
    ]
    assert found == [(3, 2, 2, 2), (3, 3, 1, 3), (1, 1, 0, 3)]


def test_sureness_counts_ties_for_half(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    for number, (solved, logprob) in enumerate([(True, -1.0), (True, -2.0), (False, -2.0), (False, -4.0)]):
        row = sample("trajectories", solved=solved, logprobs=[logprob], num_tokens=1)
        lake.publish("trajectories", str(number), [row])
    assert warehouse.named("questions/sureness_of_right_and_wrong").to_dicts() == [
        {"round": 0, "of_right": -1.5, "of_wrong": -3.0, "auc": 0.875}
    ]


def test_a_retrains_promotion_ends_a_row_of_refusals(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    for round, promoted in ((0, True), (1, False), (2, False), (3, False)):
        lake.publish("rounds", f"main-{round}", [sample("rounds", line="main", round=round, promoted=promoted)])
    lake.publish("promotions", "main-0", [sample("promotions", line="main", round=0, verdict="initial")])
    assert warehouse.named("refusals_in_a_row", line="main")["n"].item() == 3
    lake.publish("promotions", "main-1", [sample("promotions", line="main", round=2, verdict="promoted")])
    assert warehouse.named("refusals_in_a_row", line="main")["n"].item() == 1


def test_a_leak_is_found(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    problems = [
        ("p", "train", "1 2>3"),
        ("q", "benchmark", "1 2>3"),
        ("r", "final", "2 3>5"),
        ("r", "benchmark", "2 3>5"),
    ]
    rows = [sample("problems", problem_id=key, split=split, question=asked) for key, split, asked in problems]
    lake.publish("problems", "all", rows)
    attempt(lake, sample, "r", "+-")
    lake.publish("selections", "s", [sample("selections", trajectory_id="r0", kept=True)])
    assert warehouse.named("questions/leakage").to_dicts() == [
        {"reserved_twice": 1, "searched": 1, "trained_on": 1, "same_question": 1}
    ]
