"""The whole wheel, small but real: one run by the real command, and everything that it leaves behind."""

import csv
import getpass
import io
import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from flows.commands import current_turn, find_checkpoint, last_run
from flows.runs import RunError
from models.policy.load import load_policy
from storage.countdown import is_for_demonstrations
from storage.home import Home
from storage.lake import Lake
from storage.registry import Registry, folder_digest
from storage.warehouse import Warehouse
from tests.flows.conftest import FLYWHEEL, Turned, Wheel, wait_until_gone

HISTORY = [
    "round", "line", "candidate", "champion", "accuracy", "low", "high", "num_problems", "promoted", "reason",
    "seconds", "tokens", "pass_at_8", "mean_tokens", "truncated_share", "entropy", "chance", "brute_force",
]  # fmt: skip
HEAVY = ["torch", "transformers", "prefect", "polars", "duckdb", "pydantic"]
LINES = [
    "run …", "countdown: 113 problems;", "start initialize", "start evaluate", "start promoted:",
    "start preflight", "preflight:", "…", "…", "…", "rough estimate for", "round 1 search",
    "round 1 finetune", "round 1 evaluate", "round 1 promoted:", "round 2 search", "round 2 finetune",
    "round 2 evaluate", "round 2 refused:", "round 2 final", "", "The run is done.", "initial policy", "champion",
    "the champion solved", "Next:",
]  # fmt: skip
LOGGED = [
    "start · reserve: reserved problems: … benchmark, … final, … development",
    "start · initialize: checkpoint …: initialization on … examples, … tokens in … seconds, loss …",
    "start · … on benchmark: benchmark: … (… % … to … … problems), … tokens in … seconds",
    "start · promote: initial: the initial policy",
    "start · report: … problems, …% of them solved, … attempts; … train, … tokens in … seconds",
    "start · preflight problems: … problems, … of them new",
    "round … · sample: … problems, … of them new",
    "round … · search … of …: shard …: … of … problems solved, … attempts, … tokens in … seconds",
    "round … · filter: … new or changed decisions, … of them to keep",
    "round … · finetune: checkpoint …: cloning on … examples, … tokens in … seconds, loss …",
    "round … · promote: promoted: solved … the champion did not and missed … it did (p = … < …)",
]


@pytest.fixture(scope="module")
def home(turned: Turned) -> Home:
    return Home(turned.wheel.home)


@pytest.fixture(scope="module")
def lake(home: Home) -> Lake:
    return Lake(home)


@pytest.fixture
def ask(home: Home) -> Any:
    """Rows of a query, as dictionaries."""
    return lambda query: Warehouse(home).query(query).to_dicts()


# What the run says.


def test_a_run_leaves_a_line_a_stage_and_a_claim(turned: Turned) -> None:
    said = [" ".join(line.split()) for line in turned.out.splitlines()]
    assert [line for line, start in zip(said, LINES, strict=True) if not line.startswith(start.rstrip("…"))] == []
    assert turned.err == ""


def test_what_goes_to_a_file_has_no_colours(turned: Turned) -> None:
    assert "\x1b" not in turned.out


def test_the_warehouse_answers_from_another_process_while_a_run_writes(turned: Turned) -> None:
    assert len(turned.counts) > 10 and turned.counts == sorted(turned.counts) and turned.counts[-1] == 24 * 24


def test_a_run_leaves_no_process_behind(turned: Turned) -> None:
    assert wait_until_gone(turned.wheel.home) == []


def test_each_stage_leaves_a_line_in_prefects_log_of_what_came_of_it(turned: Turned) -> None:
    query = "SELECT task_run.name, message FROM log JOIN task_run ON task_run.id = log.task_run_id ORDER BY timestamp"
    with closing(sqlite3.connect(turned.wheel.home / "prefect" / "prefect.db")) as connection:
        logged = [": ".join(row) for row in connection.execute(query)]
    numbers = r"[0-9a-f]{20}|evaluate [0-9a-f]{6}|[0-9][-0-9.,e]*"
    shapes = [re.sub(numbers, "…", line).replace("minutes", "seconds") for line in logged]
    assert [shape for shape in LOGGED if shape not in shapes] == []


# History.


def test_history_for_programs_is_a_list_of_rounds(turned: Turned) -> None:
    rounds = json.loads(turned.wheel("history", "--json").stdout)
    assert [list(row) for row in rounds] == [HISTORY] * 3
    assert [(row["round"], row["promoted"]) for row in rounds] == [(0, True), (1, True), (2, False)]
    assert [row["num_problems"] for row in rounds] == [40, 40, 40]
    assert rounds[0]["reason"] == "the initial policy"
    assert rounds[1]["accuracy"] > rounds[0]["accuracy"]
    for row in rounds:
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
        assert 0 <= row["pass_at_8"] <= 1 and row["truncated_share"] == 0
        assert row["tokens"] > 0 and row["seconds"] > 0 and row["entropy"] > 0 and row["mean_tokens"] > 1


def test_the_champion_stays_where_a_candidate_is_refused(turned: Turned) -> None:
    start, better, worse = json.loads(turned.wheel("history", "--json").stdout)
    assert start["champion"] == start["candidate"]
    assert better["champion"] == better["candidate"] == worse["champion"] != worse["candidate"]


def test_history_for_people_names_chance(turned: Turned) -> None:
    lines = turned.wheel("history").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["round", "0", "1", "2", "accuracy", "on"]
    assert "uniform legal play solves 1.000" in lines[-1] and "brute force needs" in lines[-1]


def test_history_for_people_marks_the_champion(turned: Turned) -> None:
    start, better, worse = turned.wheel("history").stdout.splitlines()[1:4]
    assert "  promoted, champion now: solved " in better
    assert "  promoted: the initial policy" in start and "  refused: no significant gain" in worse


def test_every_round_says_how_long_its_stages_took(lake: Lake) -> None:
    rounds = [row for key in lake.keys("rounds") for row in lake.read("rounds", key)]
    assert [list(json.loads(row.stage_seconds)) for row in rounds] == [
        ["sample", "initialize", "evaluate", "promote"],
        ["sample", "search", "filter", "finetune", "evaluate", "promote"],
        ["sample", "search", "filter", "finetune", "evaluate", "promote"],
    ]
    assert all(0 < sum(json.loads(row.stage_seconds).values()) <= row.seconds for row in rounds)


# The lake.


def test_every_trajectory_right_or_wrong_has_a_decision_with_a_reason(ask: Any) -> None:
    undecided = "SELECT count(*) AS n FROM trajectories ANTI JOIN current_selections USING (trajectory_id)"
    assert ask(undecided) == [{"n": 0}]
    by_reason = ask("""
        SELECT s.reason, any_value(solved) AS solved, any_value(kept) AS kept
        FROM trajectories AS t JOIN current_selections AS s USING (trajectory_id)
        GROUP BY s.reason HAVING count(DISTINCT solved) = 1 ORDER BY s.reason""")
    assert by_reason == [
        {"reason": "duplicate", "solved": True, "kept": False},
        {"reason": "kept", "solved": True, "kept": True},
        {"reason": "wrong", "solved": False, "kept": False},
    ]


def test_every_attempt_is_kept_with_what_explains_it(ask: Any) -> None:
    assert ask("SELECT round, count(*) AS n FROM trajectories GROUP BY ALL ORDER BY ALL") == [
        {"round": 0, "n": 24 * 8},
        {"round": 1, "n": 24 * 8},
        {"round": 2, "n": 24 * 8},
    ]
    odd = ask("""
        SELECT count(*) AS n FROM trajectories
        WHERE num_tokens <> len(token_ids) OR num_tokens <> len(logprobs) OR stop_reason NOT IN ('end', 'length')
            OR reason NOT IN ('solved', 'wrong', 'unparsed') OR solved <> (reason = 'solved') OR reward <> solved::INT
            OR checkpoint_id NOT IN (SELECT checkpoint_id FROM checkpoints)""")
    assert odd == [{"n": 0}]


def test_a_round_samples_from_the_champion_before_it(ask: Any) -> None:
    samplers = ask("SELECT DISTINCT round, checkpoint_id FROM trajectories ORDER BY round")
    champions = ask("SELECT round, champion_id FROM rounds ORDER BY round")
    before = [champions[0], champions[0], champions[1]]
    assert [row["checkpoint_id"] for row in samplers] == [row["champion_id"] for row in before]


def test_no_reserved_problem_is_ever_searched(ask: Any) -> None:
    assert ask("SELECT split, count(*) AS n FROM problems GROUP BY ALL ORDER BY ALL") == [
        {"split": "benchmark", "n": 40},
        {"split": "development", "n": 5},
        {"split": "final", "n": 20},
        {"split": "train", "n": 48},
    ]
    for table in ("draws", "trajectories"):
        searched = f"SELECT DISTINCT split FROM {table} JOIN problems USING (problem_id)"
        assert ask(searched) == [{"split": "train"}]


def test_no_problem_has_the_numbers_of_a_demonstration(ask: Any) -> None:
    games = [json.loads(row["data"])["numbers"] for row in ask("SELECT data FROM problems")]
    assert len(games) == 113 and not any(map(is_for_demonstrations, games))


def test_nothing_is_there_twice(ask: Any, lake: Lake) -> None:
    keys = {
        "problems": "problem_id",
        "trajectories": "trajectory_id",
        "checkpoints": "checkpoint_id",
        "evaluations": "evaluation_id",
        "promotions": "promotion_id",
        "rounds": "round_id",
        "selections": "selection_id, trajectory_id",
        "outcomes": "evaluation_id, problem_id, sample",
        "draws": "run_id, round, place",
    }
    for table, key in keys.items():
        twice = f"SELECT count(*) - count(DISTINCT ({key})) AS twice, count(*) > 0 AS some FROM {table}"
        assert ask(twice) == [{"twice": 0, "some": True}], table


def test_a_champion_walks_back_to_the_problems_that_made_it(home: Home, ask: Any) -> None:
    registry = Registry(home)
    (line,) = ask("SELECT line, champion_id FROM champions")
    champion, initial = registry.lineage(line["champion_id"])
    assert (champion.objective, champion.round, initial.objective, initial.round) == (
        "cloning", 1, "initialization", 0,
    )  # fmt: skip
    assert champion.parent_id == initial.checkpoint_id and initial.parent_id == ""
    problems = ask(f"""
        SELECT count(DISTINCT problem_id) > 0 AS some, bool_and(split = 'train') AS train
        FROM selections JOIN trajectories USING (trajectory_id) JOIN problems USING (problem_id)
        WHERE selection_id = '{champion.selection_id}' AND kept""")
    assert problems == [{"some": True, "train": True}]


def test_a_checkpoint_is_an_ordinary_folder_with_its_digest(home: Home, lake: Lake) -> None:
    for key in lake.keys("checkpoints"):
        (row,) = lake.read("checkpoints", key)
        folder = home.resolve(row.folder)
        assert folder_digest(folder) == row.digest
        assert load_policy(folder).tokenizer.eos_token_id is not None


def test_the_promotions_are_one_sequence_with_their_evidence(ask: Any) -> None:
    rows = ask("SELECT sequence, round, verdict, p_value < alpha AS sure FROM promotions ORDER BY 1")
    assert rows == [
        {"sequence": 0, "round": 0, "verdict": "initial", "sure": None},
        {"sequence": 1, "round": 1, "verdict": "promoted", "sure": True},
        {"sequence": 2, "round": 2, "verdict": "refused", "sure": False},
    ]
    assert ask("SELECT wins > losses AS gained FROM promotions WHERE verdict = 'promoted'") == [{"gained": True}]


def test_the_run_keeps_its_configuration_and_how_it_ended(ask: Any, turned: Turned) -> None:
    first, last = ask("SELECT state, first_round, num_rounds, config FROM runs ORDER BY created_at")
    assert (first["state"], last["state"]) == ("running", "finished")
    assert (last["first_round"], last["num_rounds"]) == (1, 2)
    config = json.loads(last["config"])
    assert config["problems"]["max_value"] == 50 and config["search"]["samples"] == 8


def test_the_database_for_other_tools_has_all_that_the_run_came_to(turned: Turned, home: Home) -> None:
    with duckdb.connect(home.published, read_only=True) as database:
        assert database.sql("SELECT count(*) FROM evaluations WHERE split = 'final'").fetchall() == [(2,)]
        assert database.sql("SELECT state FROM current_runs").fetchall() == [("finished",)]


# The home.


def test_what_the_home_holds_is_its_owners_alone(turned: Turned) -> None:
    open_to_others = [
        path for path in [turned.wheel.home, *turned.wheel.home.rglob("*")] if path.stat().st_mode & 0o077
    ]
    assert open_to_others == []


def test_no_path_of_the_machine_is_in_the_lake(turned: Turned) -> None:
    for path in (turned.wheel.home / "lake").rglob("*.parquet"):
        texts = pl.read_parquet(path).select(pl.col(pl.String)).rows()
        found = [text for row in texts for text in row if text and str(turned.wheel.folder) in text]
        assert found == [], path.name


# The other commands.


def test_sql_answers_in_each_format(turned: Turned, tmp_path: Path) -> None:
    query = "SELECT round, promoted FROM rounds ORDER BY round LIMIT 2"
    said = {form: turned.wheel("sql", query, "--format", form).stdout for form in ("table", "csv", "json")}
    assert list(csv.reader(io.StringIO(said["csv"]))) == [["round", "promoted"], ["0", "true"], ["1", "true"]]
    assert json.loads(said["json"]) == [{"round": 0, "promoted": True}, {"round": 1, "promoted": True}]
    assert [line.split() for line in said["table"].splitlines()] == [
        ["round", "promoted"], ["0", "True"], ["1", "True"], ["(2", "rows)"],
    ]  # fmt: skip
    with (tmp_path / "answer.parquet").open("wb") as file:
        command = [FLYWHEEL, "sql", query, "--format", "parquet"]
        subprocess.run(command, cwd=turned.wheel.folder, env={"FLYWHEEL_HOME": ".flywheel"}, stdout=file, check=True)
    assert pl.read_parquet(tmp_path / "answer.parquet").rows() == [(0, True), (1, True)]


def test_sql_only_reads(turned: Turned) -> None:
    refused = turned.wheel("sql", "DELETE FROM rounds", status=1)
    assert refused.stdout == ""
    assert (
        refused.stderr == "flywheel: found a statement of type DELETE, expected SELECT: the lake is only read here.\n"
    )


def test_solve_says_what_was_chosen_and_why(turned: Turned) -> None:
    solution = json.loads(turned.wheel("solve", "2 3>6", "--json").stdout)
    keys = ["answer", "text", "steps", "is_verified", "why", "strategy", "num_samples", "num_tokens"]
    assert list(solution) == keys
    assert solution["strategy"] == "best_of_n(8), chosen by the rules of the game"
    assert solution["num_samples"] == 8 and solution["why"].startswith("the rules of the game accept ")


def test_solve_refuses_what_is_no_problem(turned: Turned) -> None:
    refused = turned.wheel("solve", "hello", status=1)
    assert refused.stderr.endswith("write whole numbers, then the target, as 4 26 7>15.\n")


def test_evaluate_measures_a_checkpoint_on_a_split(wheel: Wheel) -> None:
    measured = json.loads(wheel("evaluate", "champion", "--split", "development", "--json").stdout)
    assert (measured["split"], measured["num_problems"], measured["num_pass_problems"]) == ("development", 5, 5)
    assert wheel.ask("SELECT split, num_problems FROM evaluations ORDER BY created_at")[-1] == {
        "split": "development",
        "num_problems": 5,
    }


def test_a_checkpoint_goes_by_champion_initial_or_the_beginning_of_its_id(home: Home, ask: Any) -> None:
    turn = current_turn(home, *last_run(home))
    initial, better, worse = (row["candidate_id"] for row in ask("SELECT candidate_id FROM rounds ORDER BY round"))
    names = ["champion", "initial", worse[:8], worse]
    assert [find_checkpoint(turn, name) for name in names] == [better, initial, worse, worse]


def test_a_beginning_of_several_ids_is_told_with_all_of_them(home: Home, lake: Lake) -> None:
    with pytest.raises(RunError, match=f"begins the ids of 3 checkpoints, {', '.join(lake.keys('checkpoints'))}: "):
        find_checkpoint(current_turn(home, *last_run(home)), "")


def test_evaluate_names_what_it_does_not_find(wheel: Wheel) -> None:
    assert "'nobody'" in wheel("evaluate", "nobody", status=1).stderr


def test_a_rollback_is_another_decision(wheel: Wheel) -> None:
    first, second = [row["champion"] for row in json.loads(wheel("history", "--json").stdout)[:2]]
    said = wheel("rollback", "--reason", "it guesses").stdout
    assert said.endswith(f" is {first} again, instead of {second}\n")
    assert wheel.ask("SELECT champion_id FROM champions") == [{"champion_id": first}]
    last = wheel.ask(
        "SELECT sequence, verdict, reason, decided_by <> 'gate' AS by_a_person FROM promotions ORDER BY 1"
    )[-1]
    assert last == {"sequence": 3, "verdict": "rolled_back", "reason": "it guesses", "by_a_person": True}
    history = wheel("history").stdout
    assert "promoted, champion now: the initial policy\n" in history and history.count("champion now") == 1
    assert f"after round 2 rolled back to round 0 by {getpass.getuser()}: it guesses\n" in history
    assert "besides the current one" in wheel("rollback", status=1).stderr


def test_a_home_that_is_not_there_is_told(tmp_path: Path) -> None:
    for command in (["history"], ["sql", "SELECT 1"], ["solve", "1 2>3"], ["evaluate"], ["rollback"]):
        refused = Wheel(tmp_path)(*command, status=1)
        assert refused.stderr == (
            f"flywheel: there is no home at {tmp_path}/.flywheel. `flywheel run` makes one; "
            "FLYWHEEL_HOME names another.\n"
        )


def test_help_imports_nothing_heavy() -> None:
    program = f"""
import sys
from flows.cli import flywheel
for arguments in (["--help"], ["run", "--help"], ["sql", "--help"]):
    flywheel(arguments, standalone_mode=False)
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""
    helped = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert helped.stderr == "[]\n"
    assert "Turn the wheel: finish the unfinished run" in helped.stdout
