"""Stopped, killed, asked for something else: the wheel goes on where it was; nothing is lost, repeated or skipped."""

import getpass
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.config import load_config
from flows.runs import RunError, begin_run
from storage.home import Home
from storage.lake import Lake
from storage.registry import Registry
from storage.warehouse import Warehouse
from tests.flows.conftest import FLYWHEEL, Turned, Wheel, wait_until_gone

CALLED = "flywheel" if shutil.which("flywheel") else FLYWHEEL
STOPPED = f"Stopped. Nothing is lost: `{CALLED} run`, with the same settings, goes on from here.\n"
RUN = ["run", "--rounds", "2"]
Files = dict[str, tuple[str, int]]


def check_whole(wheel: Wheel, num_rounds: int) -> None:
    """Nothing is there twice, and no round or decision is missing."""
    warehouse = Warehouse(Home(wheel.home))
    for table, key in {
        "trajectories": "trajectory_id",
        "problems": "problem_id",
        "rounds": "line, round",
        "outcomes": "evaluation_id, problem_id, sample",
        "draws": "run_id, round, place",
    }.items():
        (twice,) = warehouse.query(f"SELECT count(*) - count(DISTINCT ({key})) AS n FROM {table}")["n"]
        assert twice == 0, table
    assert warehouse.query("SELECT round FROM rounds ORDER BY round")["round"].to_list() == list(range(num_rounds + 1))
    sequence = warehouse.query("SELECT sequence FROM promotions ORDER BY sequence")["sequence"].to_list()
    assert sequence == list(range(num_rounds + 1))
    attempts = warehouse.query("SELECT count(*) AS n FROM trajectories GROUP BY round")["n"].to_list()
    assert attempts == [24 * 8] * (num_rounds + 1)
    undecided = warehouse.query("FROM trajectories ANTI JOIN current_selections USING (trajectory_id)")
    assert undecided.is_empty()
    registry = Registry(Home(wheel.home))
    assert all(registry.open(key).is_dir() for key in Lake(Home(wheel.home)).keys("checkpoints"))


def settings_of(wheel: Wheel, **sets: object) -> list[str]:
    """--set for begin_run, which does not run in the wheel's folder."""
    return [f"initialization.file={wheel.folder}/demonstrations.jsonl", *(f"{k}={v}" for k, v in sets.items())]


# One wheel, stopped by Ctrl-C, then killed, then left in peace: what each of these left behind.


@dataclass(frozen=True)
class Story:
    """A wheel that was stopped and killed on its way, and how it stood each time."""

    wheel: Wheel
    stopped: "subprocess.CompletedProcess[str]"
    second_writer: "subprocess.CompletedProcess[str]"
    reader: "subprocess.CompletedProcess[str]"
    pid: int
    other_settings: "subprocess.CompletedProcess[str]"
    left_running: list[str]
    at_stop: Files
    at_kill: Files
    finished: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def story(turned: Turned, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    wheel = turned.wheel.copy(tmp_path_factory.mktemp("story"))

    first = wheel.start(*RUN)
    wheel.wait_for("lake/runs/*-running.parquet", 2, first)
    second_writer, reader = wheel("run", status=1), wheel("history", "--json")
    wheel.wait_for("lake/trajectories/*-r0003-*", 1, first)
    first.send_signal(signal.SIGINT)
    out, err = first.communicate()
    stopped = subprocess.CompletedProcess(RUN, first.returncode, out, err)
    at_stop = wheel.digests()
    other_settings = wheel("run", "--rounds", "3", "--set", "search.samples=4", status=1)

    shutil.rmtree(wheel.home / "prefect")
    second = wheel.start(*RUN)
    wheel.wait_for("lake/selections/*-r0003-*", 1, second)
    os.kill(second.pid, signal.SIGKILL)
    left_running = wait_until_gone(wheel.home)
    at_kill = wheel.digests()

    finished = wheel("run")
    yield Story(
        wheel=wheel,
        stopped=stopped,
        second_writer=second_writer,
        reader=reader,
        pid=first.pid,
        other_settings=other_settings,
        left_running=left_running,
        at_stop=at_stop,
        at_kill=at_kill,
        finished=finished,
    )
    wheel.end()


def test_control_c_stops_with_a_line_that_says_how_to_go_on(story: Story) -> None:
    assert (story.stopped.returncode, story.stopped.stderr) == (130, "")
    assert story.stopped.stdout.endswith(STOPPED)


def test_a_second_writer_is_told_who_holds_the_home(story: Story) -> None:
    assert story.second_writer.stdout == ""
    holder = f"is being written by {getpass.getuser()} on {socket.gethostname()}, process {story.pid}, since "
    assert holder in story.second_writer.stderr and story.second_writer.stderr.count("\n") == 1


def test_readers_work_while_another_writes(story: Story) -> None:
    assert [row["round"] for row in json.loads(story.reader.stdout)] == [0, 1, 2]


def test_changed_settings_of_an_unfinished_run_are_listed(story: Story) -> None:
    assert re.sub(r"run \w+", "run …", story.other_settings.stderr) == (
        "flywheel: run … is unfinished and began with other settings:\n"
        "  search.samples: 8 → 4\n"
        "  rounds: 2 → 3\n"
        "Take the changes back to finish it, or leave it and begin another from the champion: --new-run.\n"
    )


def test_a_killed_run_leaves_no_process_behind(story: Story) -> None:
    assert story.left_running == []


def test_a_stopped_and_killed_run_is_finished_from_the_lake_alone(story: Story) -> None:
    assert story.finished.stderr == ""
    assert "The run is done." in story.finished.stdout
    check_whole(story.wheel, num_rounds=4)
    states = story.wheel.ask("SELECT state, first_round, num_rounds FROM current_runs ORDER BY started_at")
    assert states == [
        {"state": "finished", "first_round": 1, "num_rounds": 2},
        {"state": "finished", "first_round": 3, "num_rounds": 2},
    ]


def test_what_was_published_before_a_stop_or_a_kill_is_never_written_again(story: Story) -> None:
    assert story.at_stop.items() < story.at_kill.items() < story.wheel.digests().items()


def test_a_further_run_samples_from_the_champion(story: Story) -> None:
    samplers = story.wheel.ask("SELECT DISTINCT checkpoint_id AS id FROM trajectories WHERE round = 3")
    assert samplers == story.wheel.ask("SELECT champion_id AS id FROM rounds WHERE round = 2")


def test_a_source_that_runs_dry_is_told_with_the_fix_and_known_problems_go_on(story: Story) -> None:
    assert (
        "countdown has run dry: 12 new problems are asked for and 0 are left of 113 problems. Ask for fewer new ones, "
        "or raise max_value (50) or numbers (2), or widen the targets (61 to 67).\n"
    ) in story.finished.stdout
    assert story.wheel.ask("SELECT DISTINCT is_new FROM draws WHERE round = 4") == [{"is_new": False}]


# What a home accepts.


def test_another_problem_set_needs_another_home(wheel: Wheel) -> None:
    refused = wheel("run", "--set", "problems.max_value=49", status=1).stderr
    assert "(problems.max_value: 50 → 49). Give it a home of its own: FLYWHEEL_HOME=DIR; or take the" in refused


def test_another_model_needs_another_home(wheel: Wheel) -> None:
    refused = wheel("run", "--set", "scratch.num_layers=2", status=1).stderr
    assert "(scratch.num_layers: 1 → 2). Give it a home of its own: FLYWHEEL_HOME=DIR; or take the" in refused


def test_another_initialization_needs_another_home(wheel: Wheel) -> None:
    refused = wheel("run", "--new-run", "--set", "initialization.epochs=3", status=1).stderr
    assert "other settings of it (initialization.epochs: 6.0 → 3.0) would do nothing." in refused


def test_a_home_of_a_newer_format_is_refused(wheel: Wheel) -> None:
    identity = wheel.home / "home.json"
    identity.write_text(identity.read_text().replace('"format": 1', '"format": 2'))
    for command in ("run", "history"):
        assert wheel(command, status=1).stderr == (
            f"flywheel: the home {wheel.home} has format 2; this code reads formats up to 1. "
            "Upgrade the flywheel, or choose another home.\n"
        )


def test_an_unfinished_run_goes_on_under_its_own_settings_only(wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wheel.folder)
    home, config = Home(wheel.home), load_config()
    begun = begin_run(home, config, num_rounds=2)
    assert (begun.first_round, begun.state) == (3, "running")
    assert begin_run(home, config, num_rounds=2) == begun
    with pytest.raises(RunError, match="rounds: 2 → for ever"):
        begin_run(home, config, num_rounds=0)


def test_a_new_run_abandons_the_unfinished_one(wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wheel.folder)
    home, config = Home(wheel.home), load_config(sets=["search.samples=4"])
    left = begin_run(home, load_config(), num_rounds=2)
    begun = begin_run(home, config, num_rounds=2, is_new=True)
    assert (begun.first_round, begun.run_id != left.run_id) == (3, True)
    assert [row["state"] for row in wheel.ask("SELECT state FROM current_runs ORDER BY started_at")] == [
        "finished", "abandoned", "running",
    ]  # fmt: skip


def test_the_same_history_gives_the_same_run(wheel: Wheel, turned: Turned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wheel.folder)
    other = turned.wheel.copy(wheel.folder / "other")
    begun = [begin_run(Home(home), load_config(), num_rounds=1).run_id for home in (wheel.home, other.home)]
    assert begun[0] == begun[1]


# Slow: more ways to stop it, and kills wherever it may be.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "pattern"),
    [
        (signal.SIGTERM, "lake/trajectories/*-r0003-*"),
        (signal.SIGTERM, "writer.lock"),
        (signal.SIGINT, "lake/selections/*-r0003-*"),
    ],
)
def test_asked_to_stop_anywhere_it_stops_cleanly(wheel: Wheel, signum: int, pattern: str) -> None:
    (wheel.home / "writer.lock").unlink()
    run = wheel.start(*RUN)
    wheel.wait_for(pattern, 1, run)
    run.send_signal(signum)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (130, "") and out.endswith(STOPPED)
    assert wait_until_gone(wheel.home) == []


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_shards_in_processes_of_their_own_stop_and_end_with_the_run(wheel: Wheel, signum: int) -> None:
    command = [*RUN, "--set", "run.runner=processes"]
    run = wheel.start(*command)
    wheel.wait_for("lake/trajectories/*-r0003-*", 1, run)
    before = wheel.digests()
    if signum == signal.SIGINT:  # as a terminal does, to all in the foreground
        os.killpg(run.pid, signum)
    else:
        run.send_signal(signum)
    out, err = run.communicate(timeout=60)
    if signum != signal.SIGKILL:
        assert (run.returncode, err) == (130, "") and out.endswith(STOPPED)
    assert wait_until_gone(wheel.home) == []
    finished = wheel(*command)
    assert finished.stderr == ""
    assert [line[:18] for line in finished.stdout.splitlines() if " search " in line] == [
        "round 3  search   ", "round 4  search   ",
    ]  # fmt: skip
    assert before.items() < wheel.digests().items()
    check_whole(wheel, num_rounds=4)


def handles(process: "subprocess.Popen[str]", signum: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (signum - 1) & 1)


@pytest.mark.slow
def test_asked_twice_it_ends_at_once(wheel: Wheel) -> None:
    run = wheel.start(*RUN)
    wheel.wait_for("lake/runs/*-running.parquet", 2, run)
    assert handles(run, signal.SIGINT)
    run.send_signal(signal.SIGINT)
    while handles(run, signal.SIGINT):  # two that wait together are one
        time.sleep(0.005)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=10)
    assert run.returncode in (-signal.SIGINT, 130)
    assert wait_until_gone(wheel.home) == []


@pytest.mark.slow
def test_what_an_abandoned_run_made_of_a_round_is_not_counted_as_the_new_ones(wheel: Wheel) -> None:
    run = wheel.start(*RUN)
    wheel.wait_for("lake/selections/*-r0003-*", 1, run)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    wheel("run", "--new-run", "--rounds", "1", "--set", "search.samples=4")
    made = wheel.ask("SELECT round, num_trajectories FROM rounds WHERE round > 2")
    assert made == [{"round": 3, "num_trajectories": 24 * 4}]
    states = [row["state"] for row in wheel.ask("SELECT state FROM current_runs ORDER BY started_at")]
    assert states == ["finished", "abandoned", "finished"]
    undecided = "SELECT count(*) AS n FROM trajectories ANTI JOIN current_selections USING (trajectory_id)"
    assert wheel.ask(undecided) == [{"n": 0}]


BOUNDARIES = [
    "lake/problems/*-reserved.parquet",
    "lake/checkpoints/[!s]*.parquet",
    "lake/evaluations/[!s]*.parquet",
    "lake/promotions/*-000000.parquet",
    "lake/rounds/*-r0000.parquet",
    "lake/trajectories/*-r0000-*-s0001.parquet",
    "lake/draws/*-r0001-*",
    "lake/trajectories/*-r0001-*-s0002.parquet",
    "lake/selections/*-r0001-*",
    "lake/promotions/*-000001.parquet",
    "lake/rounds/*-r0001.parquet",
    "lake/selections/*-r0002-*",
    "lake/rounds/*-r0002.parquet",
]
"""What each stage publishes: killed when it appears, the wheel is between two stages or at the start of the next."""
NUM_RANDOM_KILLS = 4


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_every_boundary_and_at_random_nothing_is_lost_or_doubled(fresh: Wheel) -> None:
    rng, kept = random.Random(7), dict[str, tuple[str, int]]()
    for number, pattern in enumerate(BOUNDARIES):
        run = fresh.start(*RUN)
        fresh.wait_for(pattern, 1, run)
        kill(run, is_group=number % 2 == 0)
        kept = check_kept(fresh, kept)
    for _ in range(NUM_RANDOM_KILLS):
        run = fresh.start("run", "--rounds", "2")
        try:
            run.communicate(timeout=rng.uniform(1, 12))
        except subprocess.TimeoutExpired:
            kill(run, is_group=False)
        kept = check_kept(fresh, kept)
    assert wait_until_gone(fresh.home) == []
    num_rounds = 2 * len(fresh.ask("FROM current_runs"))
    fresh(*RUN)
    check_kept(fresh, kept)
    check_whole(fresh, num_rounds)


def kill(run: "subprocess.Popen[str]", *, is_group: bool) -> None:
    if is_group:
        os.killpg(run.pid, signal.SIGKILL)
    else:
        run.kill()
    run.communicate()


def check_kept(wheel: Wheel, before: Files) -> Files:
    """All that was there is there, not written again; gives what is there now."""
    after = wheel.digests()
    assert before.items() <= after.items()
    return after
