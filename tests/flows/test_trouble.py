"""What goes wrong: told in a line that names the fix, with nothing lost and the champion untouched."""

import json
import os
import random
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.commands import current_turn, last_run
from flows.config import Config, load_config
from flows.launch import present, uncover
from flows.preflight import HopelessError, check, describe
from flows.runs import publish
from flows.server import Server, ServerError
from flows.stages import Stages
from models.learning.settings import LearningSettings
from models.learning.trainer import NonFiniteLossError
from storage.home import DiskFullError, Home
from storage.records import State
from tasks.finetune import train
from tasks.lessons import find_lessons
from tasks.promote import promote
from tasks.turn import Turn
from tests.flows.conftest import Wheel, wait_until_gone

FILE_TOML = """
[problems]
kind = "file"
path = "problems.jsonl"

[splits]
benchmark = 40
final = 20
development = 10
"""
SMALL = """
[policy]
max_new_tokens = 24

[scratch]
hidden_size = 32
num_layers = 1
num_heads = 2

[initialization]
file = "demonstrations.jsonl"

[curriculum]
problems = 24

[run]
min_free_mb = 50
shard_problems = 8
"""


def one_line(text: str) -> str:
    """The only line of an error."""
    assert text.count("\n") == 1 and text.startswith("flywheel: ") and "Traceback" not in text, text
    return text.removeprefix("flywheel: ").rstrip()


def last_turn(wheel: Wheel) -> Turn:
    """Of the last closed round. No fixture: held by one, DuckDB complains of leaks when Python ends."""
    home = Home(wheel.home)
    return current_turn(home, *last_run(home))


# Before anything runs.


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"question": "1+1?", "answer": "2"}\n{"question": ', "problems.jsonl, line 2 is not valid JSON: "),
        ('{"question": "1+1?", "reply": "2"}', "problems.jsonl, line 1 has no column 'answer'; its columns are "),
        ("", "problems.jsonl has no rows; expected a question and an answer in each: fill it, or name another."),
        (
            '{"question": "1+1?", "answer": "2"}\n{"question": "1+1?", "answer": "3"}',
            "problems.jsonl, line 2 asks what problems.jsonl, line 1 asks, with the answer '3', not '2'; ",
        ),
        (
            '{"question": "1+1?", "answer": "2"}',
            "file:problems.jsonl makes 1 problems for these splits, and benchmark 40 + final 20 + development 10 ",
        ),
        (b"\x00\xff\xfe PK\x03\x04", "problems.jsonl, line 1 is not UTF-8 text; save it as UTF-8, or name another."),
    ],
    ids=["bad JSON", "missing column", "empty", "two answers", "too few", "binary"],
)
def test_a_malformed_problem_file_is_told_and_leaves_no_run(tmp_path: Path, content: str | bytes, reason: str) -> None:
    (tmp_path / "flywheel.toml").write_text(FILE_TOML + SMALL)
    (tmp_path / "demonstrations.jsonl").write_text('{"prompt": "1+1?", "completion": "2"}')
    (tmp_path / "problems.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused = Wheel(tmp_path)("run", status=1)
    assert refused.stdout == "" and reason in one_line(refused.stderr)
    assert Wheel(tmp_path).ask("FROM runs") == []


def test_malformed_demonstrations_are_told_before_anything_runs(fresh: Wheel) -> None:
    (fresh.folder / "demonstrations.jsonl").write_text('{"prompt": "6>2 3;"}')
    refused = fresh("run", status=1).stderr
    assert one_line(refused) == (
        "demonstrations.jsonl, line 1 has prompt; "
        "expected a prompt and a completion, both texts with something in them."
    )


def test_a_model_that_is_not_there_is_told_within_ten_seconds(tmp_path: Path) -> None:
    (tmp_path / "flywheel.toml").write_text('[policy]\nmodel = "nobody/nothing"\n')
    before = os.times().children_user
    refused = Wheel(tmp_path)("run", status=1)
    assert os.times().children_user - before < 10  # of its own time, for the machine may be busy
    assert "the model 'nobody/nothing' is not on this machine" in one_line(refused.stderr)
    assert "`hf download nobody/nothing`" in refused.stderr


def test_a_line_begins_with_no_adapters_alone(tmp_path: Path) -> None:
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "adapter_config.json").write_text("{}")
    (tmp_path / "flywheel.toml").write_text('[policy]\nmodel = "adapters"\n')
    refused = Wheel(tmp_path)("run", status=1)
    assert "policy.model 'adapters' is adapters alone" in one_line(refused.stderr)
    assert Wheel(tmp_path).ask("FROM runs") == []


def test_too_small_a_disk_is_told_before_the_start(wheel: Wheel) -> None:
    refused = wheel("run", "--set", "run.min_free_mb=1000000000", status=1)
    assert "a run needs 0 MB and 1,000,000,000 MB must stay free. Free some space there" in one_line(refused.stderr)


# Between and inside stages.


def test_below_the_floor_no_stage_begins(wheel: Wheel) -> None:
    turn = last_turn(wheel)
    stages = Stages.of(turn, load_config(sets=["run.min_free_mb=1000000000"]))
    with pytest.raises(DiskFullError, match="stage search needs 0 MB and"), stages("search"):
        raise AssertionError("it began")


def test_a_loss_that_is_not_finite_names_the_batch_and_leaves_the_champion(wheel: Wheel) -> None:
    turn = last_turn(wheel)
    champion, known = turn.registry.champion(turn.line), turn.lake.keys("checkpoints")
    last = Turn(root=turn.root, line=turn.line, run_id="another", round=3, seed=0)
    with pytest.raises(NonFiniteLossError, match=r"in the batch of \d+ examples that begins [0-9a-f]{20}, "):
        train.fn(last, champion, "selection", LearningSettings(weight_decay=1e38), Config().policy, Config().search)
    assert (turn.registry.champion(turn.line), turn.lake.keys("checkpoints")) == (champion, known)
    assert list(turn.home.tmp.iterdir()) == []


def test_nothing_kept_for_training_says_where_to_look(wheel: Wheel) -> None:
    turn = last_turn(wheel)
    other = Turn(root=turn.root, line="another", run_id="another", round=1, seed=0)
    with pytest.raises(ValueError, match="nothing was kept for training in round 1: `flywheel sql") as error:
        find_lessons(
            other, LearningSettings(), Config().policy, selection_id="none", parent_id="none", checkpoint_id="none"
        )
    assert "Search harder (search.samples), or take easier problems." in str(error.value)


def test_a_decision_made_before_a_stop_stands_though_the_champion_was_rolled_back_since(wheel: Wheel) -> None:
    turn = last_turn(wheel)
    made = turn.registry.latest(turn.line)
    assert made is not None
    turn.registry.rollback(turn.line, decided_by="someone", reason="a whim")
    evaluations = [turn.lake.read("evaluations", key)[0] for key in turn.lake.keys("evaluations")]
    assert promote.fn(turn, evaluations[0], evaluations[1], Config().gate) == made


# Prefect's server fails: it writes to the same disk.


def failed_request(server: Server) -> None:
    """As Prefect's client meets a server that is gone."""
    httpx.get(f"{server.api}/health", trust_env=False)


@pytest.mark.parametrize("error", [DiskFullError("0 MB free while writing rounds"), KeyError("0 MB free")])
def test_an_error_that_prefect_could_not_note_is_told_all_the_same(error: Exception) -> None:
    gone = Server(api="http://127.0.0.1:9/api")
    with pytest.raises(type(error), match="0 MB free"):
        try:
            try:
                raise error
            finally:
                failed_request(gone)
        except Exception as of_prefect:
            uncover(of_prefect, gone, again="run")


def test_a_server_that_fails_by_itself_is_named_with_its_log(tmp_path: Path) -> None:
    gone = Server(api="http://127.0.0.1:9/api", log=tmp_path / "prefect.log")
    with pytest.raises(
        ServerError, match=r"failed \(.*refused\); .*/prefect.log says why.* run`, with the same settings"
    ):
        try:
            failed_request(gone)
        except Exception as error:
            uncover(error, gone, again="run")


def test_a_run_that_is_done_is_done_also_where_the_server_failed_at_its_end(
    wheel: Wheel, capsys: pytest.CaptureFixture[str]
) -> None:
    class Answering(Server):
        def wait(self) -> None: ...

    gone, home = Answering(api="http://127.0.0.1:9/api"), Home(wheel.home)
    run, _ = last_run(home)
    assert present(home, run, "It begins.", lambda: failed_request(gone), gone, again="run", afterwards="Next") == 0
    assert capsys.readouterr().out.startswith("It begins.\nAll is done, but for its page in Prefect's UI: ")
    unfinished = publish(home, replace(run, run_id="another"), State.RUNNING)
    with pytest.raises(ServerError, match="Nothing is lost"):
        present(home, unfinished, "It begins.", lambda: failed_request(gone), gone, again="run")


def test_other_errors_are_not_laid_at_its_door() -> None:
    uncover(KeyError("ours"), Server(api="http://127.0.0.1:9/api"), again="run")


# The preflight.

FOUND = {
    "num_problems": 64, "num_trajectories": 512, "solved_share": 0.25, "mixed_share": 0.75, "truncated_share": 0.2,
    "unparsed_share": 0.1, "failed_share": 0.0, "prompts": ["6>2 3;"], "texts": ["2*3=6;\x1b[31m"],
    "reasons": ["unparsed"],
}  # fmt: skip


def test_the_preflight_lets_a_policy_that_solves_something_go_on() -> None:
    check(FOUND, Config())


def test_the_preflight_refuses_where_nothing_is_solved() -> None:
    with pytest.raises(HopelessError, match=r"none of 512 attempts was right.* Take easier problems, a stronger"):
        check(FOUND | {"solved_share": 0.0}, Config())


def test_the_preflight_refuses_where_over_a_fifth_is_cut_off() -> None:
    advice = r"21% of the attempts were cut off at 96 tokens\. Raise policy.max_new_tokens, to 192 say"
    with pytest.raises(HopelessError, match=advice):
        check(FOUND | {"truncated_share": 0.21}, Config())


def test_what_a_model_wrote_cannot_steer_the_terminal() -> None:
    assert describe(FOUND) == [
        "preflight: 64 problems, 512 attempts: solved 25%, truncated 20%, unparsed 10%, failed 0%; "
        "75% of the problems with both right and wrong answers",
        "   unparsed  6>2 3; 2*3=6;\\x1b[31m",
    ]


# Slow: the same by the whole command.


@pytest.mark.slow
def test_a_policy_that_solves_nothing_is_refused(fresh: Wheel) -> None:
    few = ["--set", "initialization.file=", "--set", "initialization.demonstrations=50", "--set", "search.samples=2"]
    refused = fresh("run", *few, status=1)
    assert "none of 192 attempts was right" in one_line(refused.stderr)
    assert "preflight: 24 problems, 192 attempts: solved 0%" in refused.stdout
    assert wait_until_gone(fresh.home) == []


@pytest.mark.slow
def test_answers_that_are_cut_off_are_refused_and_a_new_run_with_more_room_goes_on(fresh: Wheel) -> None:
    refused = fresh("run", "--set", "policy.max_new_tokens=7", status=1)
    assert "of the attempts were cut off at 7 tokens." in one_line(refused.stderr)
    went_on = fresh("run", "--rounds", "1", "--new-run")
    assert "truncated 0%" in went_on.stdout and "The run is done." in went_on.stdout
    assert fresh.ask("SELECT num_trajectories FROM rounds WHERE round = 1") == [{"num_trajectories": 192}]


@pytest.mark.slow
def test_a_round_that_fails_is_told_and_leaves_the_champion(wheel: Wheel) -> None:
    (before,) = wheel.ask("FROM champions")
    refused = wheel("run", "--rounds", "1", "--set", "learning.weight_decay=1e38", status=1)
    assert "examples that begins" in one_line(refused.stderr)
    assert wheel.ask("FROM champions") == [before]
    assert [row["round"] for row in wheel.ask("SELECT round FROM rounds ORDER BY round")] == [0, 1, 2]


def word_problems(num: int, seed: int) -> Iterator[dict[str, str]]:
    """Arithmetic in words, as GSM8K writes it."""
    rng = random.Random(seed)
    for _ in range(num):
        name, thing = rng.choice(["Ann", "Bo", "Cy", "Di"]), rng.choice(["eggs", "pens", "cups", "nuts"])
        a, b = rng.randint(2, 99), rng.randint(2, 99)
        total = a + b
        yield {
            "question": f"{name} has {a} {thing} and buys {b} more. How many {thing} has {name}?",
            "answer": f"{a} + {b} = <<{a}+{b}={total}>>{total} {thing}.\n#### {total}",
        }


@pytest.mark.slow
def test_word_problems_are_refused_by_preflight_or_gate(tmp_path: Path) -> None:
    wheel = Wheel(tmp_path)
    (tmp_path / "flywheel.toml").write_text(FILE_TOML + SMALL)
    rows = list({row["question"]: row for row in word_problems(400, seed=0)}.values())
    demonstrations = [{"prompt": row["question"], "completion": row["answer"]} for row in rows[200:]]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:200]))
    (tmp_path / "demonstrations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in demonstrations))
    process = wheel.start("run", "--rounds", "1")
    out, err = process.communicate(timeout=240)
    if process.returncode:
        assert re.search("none of 192 attempts was right|of the attempts were cut off", one_line(err))
    else:
        assert "no significant gain" in out
    (start,) = json.loads(wheel("history", "--json").stdout)[:1]
    assert (start["accuracy"], start["num_problems"], start["chance"]) == (0.0, 40, None)
    assert wait_until_gone(wheel.home) == []


@pytest.mark.slow
@pytest.mark.needs("mount")
@pytest.mark.parametrize("pattern", ["lake/draws/*-r0003-*", "lake/selections/*-r0003-*", "lake/outcomes/*"])
def test_a_full_disk_is_told_and_with_more_room_the_run_is_finished(
    turned: Any, small_disk: Path, pattern: str
) -> None:
    wheel = turned.wheel.copy(small_disk)
    command = ["run", "--rounds", "1", "--set", "run.min_free_mb=0"]
    known = len(list(wheel.home.glob(pattern)))
    run = wheel.start(*command)
    wheel.wait_for(pattern, known + 1, run)
    fill(small_disk / "ballast")
    out, err = run.communicate()
    assert (run.returncode, "is full: 0 MB free while writing" in one_line(err)) == (1, True), out
    before = wheel.digests()

    (small_disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=48m", small_disk], check=True)
    assert "The run is done." in wheel(*command).stdout
    assert before.items() < wheel.digests().items()
    assert wheel.ask("SELECT count(*) - count(DISTINCT trajectory_id) AS n FROM trajectories") == [{"n": 0}]


def fill(path: Path) -> None:
    """Leave no room."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return
