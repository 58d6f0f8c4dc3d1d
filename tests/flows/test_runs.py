"""Which run goes on and which is new, what its line is called, and what it asks for before it starts."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from flows import cli, supply
from flows.commands import evaluate_checkpoint
from flows.config import differences, from_json, load_config
from flows.flywheel import choose_effort
from flows.launch import greet
from flows.preflight import num_busy, tell_time
from flows.round import finish
from flows.runs import FOREVER, RunError, as_now, begin_run, disk_need, line_of, publish
from flows.stages import Nobody, watched_by
from models.policy.scratch import build_tokenizer
from models.policy.settings import PolicySettings
from models.search.settings import SearchSettings
from storage.history import find_run
from storage.home import DiskFullError, Home
from storage.lake import Lake
from storage.records import Run, State
from storage.warehouse import Warehouse
from tasks.progress import Progress, heard_by
from tasks.search import Shard, search
from tasks.turn import Turn
from tests.flows.conftest import TINY, Turned, Wheel

SPLITS = ["splits.benchmark=4", "splits.final=2"]
FROM_FILE = ["problems.kind=file", "initialization.file=demonstrations.jsonl"]


class Listener(Nobody):
    """Keeps what it hears and what is said."""

    def __init__(self) -> None:
        self.heard: list[Progress] = []
        self.said: list[str] = []

    def hear(self, progress: Progress) -> None:
        self.heard.append(progress)

    def say(self, text: str) -> None:
        self.said.append(text)


def turn_of(home: Home, round: int) -> Turn:
    """Of the turned wheel's run."""
    (run,) = Warehouse(home).query("SELECT DISTINCT run_id, line FROM runs").to_dicts()
    return Turn(root=home.root, line=run["line"], run_id=run["run_id"], round=round, seed=0)


def make_home(folder: Path) -> Home:
    home = Home.open(folder / "home")
    Lake(home).seed()
    return home


def begin(home: Home, *sets: str, num_rounds: int | None = None, is_new: bool = False) -> Run:
    """A run of tiny Countdown problems without demonstrations of a file."""
    config = load_config(None, [*SPLITS, "initialization.demonstrations=9", *sets], {})
    return begin_run(home, config, num_rounds=num_rounds, is_new=is_new)


# Rounds.


def test_an_unfinished_run_keeps_its_number_of_rounds_unless_another_is_asked_for(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    begun = begin(home, num_rounds=2)
    assert begin(home) == begin(home, "run.rounds=9") == begin(home, num_rounds=2) == begun
    with pytest.raises(RunError, match=r"  rounds: 2 → 9\n.*--new-run"):
        begin(home, num_rounds=9)


def test_a_run_for_ever_goes_on_for_ever(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    begun = begin(home, num_rounds=FOREVER)
    assert begin(home) == begun
    with pytest.raises(RunError, match=r"rounds: for ever → 6"):
        begin(home, num_rounds=6)


def test_what_may_change_is_taken_where_it_is_said_and_fits() -> None:
    run = load_config(None, ["learning.recompute=true", "policy.engine=server", "run.workers=1"], {})
    now = load_config(None, ["learning.forward_tokens=64", "learning.epochs=9"], {})
    resumed = as_now(run, now)
    assert differences(run, resumed) == ["learning.forward_tokens: 0 → 64"]
    assert as_now(run, load_config(None, ["run.workers=4"], {})) == run, "an engine that is a server has one"


def test_a_run_that_goes_on_by_workers_keeps_their_server(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    begin(home)
    resumed = begin(home, "run.runner=workers", "serve.url=http://10.0.0.1:4200/api")
    assert from_json(resumed.config).serve.url == "http://10.0.0.1:4200/api"


def test_a_new_run_has_the_rounds_of_the_configuration(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    assert begin(home, "run.rounds=4", is_new=True).num_rounds == 4
    assert begin(home, "run.rounds=4", num_rounds=FOREVER, is_new=True).num_rounds == FOREVER


def test_rounds_and_for_ever_exclude_each_other() -> None:
    refused = CliRunner().invoke(cli.flywheel, ["run", "--rounds", "2", "--forever"])
    assert refused.exit_code == 2
    assert "Error: --rounds and --forever exclude each other: leave one out." in refused.output
    refused = CliRunner().invoke(cli.flywheel, ["run", "--set", "run.rounds=2", "--forever"])
    assert refused.output == "flywheel: run.rounds would do nothing beside --forever: leave one out\n"


# Lines.


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([*FROM_FILE, "problems.path=a.jsonl"], [*FROM_FILE, "problems.path=/data/a.jsonl"]),
        (
            [*FROM_FILE, "problems.path=a.jsonl", "problems.benchmark_path=b.jsonl"],
            [*FROM_FILE, "problems.path=a.jsonl", "problems.benchmark_path=../b.jsonl"],
        ),
        (["policy.model=models/tiny"], ["policy.model=/elsewhere/tiny/"]),
    ],
)
def test_a_line_is_the_same_wherever_its_files_lie(before: list[str], after: list[str]) -> None:
    assert line_of(load_config(None, before, {})) == line_of(load_config(None, after, {}))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["problems.path=a.jsonl"], ["problems.path=b.jsonl"]),
        (["problems.path=a.jsonl"], ["problems.path=a.jsonl", "problems.benchmark_path=b.jsonl"]),
        (["problems.path=a.jsonl"], ["problems.path=a.jsonl", "problems.seed=1"]),
    ],
)
def test_another_file_makes_another_line(before: list[str], after: list[str]) -> None:
    lines = {line_of(load_config(None, [*FROM_FILE, *sets], {})) for sets in (before, after)}
    assert len(lines) == 2 and all(line.startswith("file-scratch-") for line in lines)


def write_problems(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    rows = [f'{{"question": "{n}+1?", "answer": "{n + 1}"}}\n' for n in range(20)]
    (folder / "problems.jsonl").write_text("".join(rows))
    (folder / "demonstrations.jsonl").write_text('{"prompt": "1+1?", "completion": "2"}')
    return folder


def settings_in(folder: Path, problems: str = "problems.jsonl") -> list[str]:
    files = [f"problems.path={folder / problems}", f"initialization.file={folder / 'demonstrations.jsonl'}"]
    return ["problems.kind=file", *SPLITS, "splits.development=1", *files]


def test_an_unfinished_run_goes_on_where_its_files_were_moved_to(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    first, second = write_problems(tmp_path / "a"), write_problems(tmp_path / "b")
    begun = begin_run(home, load_config(None, settings_in(first), {}))
    for folder in (second, first, second):
        config = load_config(None, settings_in(folder), {})
        moved = begin_run(home, config)
        assert (moved.run_id, from_json(moved.config)) == (begun.run_id, config)
        assert begin_run(home, config) == find_run(Warehouse(home), begun.run_id) == moved


def test_a_home_refuses_another_file_and_names_the_fix(tmp_path: Path) -> None:
    home, folder = make_home(tmp_path), write_problems(tmp_path / "a")
    begin_run(home, load_config(None, settings_in(folder), {}))
    change = f"problems.path: {folder}/problems.jsonl → {folder}/other.jsonl"
    with pytest.raises(
        RunError, match=r"the configuration makes another \(problems\.path: .*FLYWHEEL_HOME=DIR"
    ) as told:
        begin_run(home, load_config(None, settings_in(folder, "other.jsonl"), {}), is_new=True)
    assert f"({change}). Give it a home of its own" in str(told.value)


def test_a_model_of_the_same_name_is_the_same_only_where_it_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path)
    for name in ("models/tiny", "elsewhere/tiny"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text('{"model_type": "llama"}')
        (tmp_path / name / "model.safetensors").write_text("")
        build_tokenizer(["0123456789"], context=64).save_pretrained(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    begun = begin_run(home, load_config(None, [*SPLITS, "policy.model=models/tiny"], {}))
    moved = begin_run(home, load_config(None, [*SPLITS, f"policy.model={tmp_path}/elsewhere/tiny"], {}))
    assert moved.run_id == begun.run_id
    with pytest.raises(RunError, match=r"makes another \(policy\.model: .*/elsewhere/tiny → someone/tiny\)"):
        begin_run(home, load_config(None, [*SPLITS, "policy.model=someone/tiny"], {}))


def test_a_line_without_a_policy_may_still_be_initialized_otherwise(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    begin(home)
    again = begin(home, "initialization.demonstrations=8", is_new=True)
    assert from_json(again.config).initialization.demonstrations == 8
    config = load_config(None, [*SPLITS, f"initialization.file={tmp_path}/nothing.jsonl"], {})
    with pytest.raises(ValueError, match=r"there is no file .*nothing\.jsonl"):
        begin_run(home, config, is_new=True)


# Disk.


def test_a_line_with_closed_rounds_is_asked_for_room_by_what_they_took(
    wheel: Wheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(wheel.folder)
    home, config = Home(wheel.home), load_config()
    files = [path for name in ("lake", "checkpoints") for path in (wheel.home / name).rglob("*") if path.is_file()]
    need = 4 * sum(path.stat().st_size for path in files) // 2
    monkeypatch.setattr(Home, "free_bytes", lambda _: need + config.run.min_free_mb * 10**6 - 1)
    with pytest.raises(DiskFullError, match=r"what is left of a run of 4 rounds needs \d+ MB and 50 MB must stay free"):
        begin_run(home, config, num_rounds=4)
    assert wheel.count("runs") == 2  # running and finished: no other has begun
    begun = begin_run(home, config, num_rounds=3)
    greeting = greet(home, begun)
    assert f" begins: 3 rounds from round 3, about {need * 3 / 4e6:,.0f} MB of disk. Home: " in greeting


def test_before_the_first_round_nothing_is_known_of_the_disk(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    begun = begin(home)
    assert disk_need(home, begun) == 0
    assert " begins: 6 rounds from round 1. Home: " in greet(home, begun)


# Supply.


def test_the_first_run_says_how_many_problems_there_are(tmp_path: Path) -> None:
    assert supply.describe_supply(load_config(TINY, (), {}), 2) == (
        "countdown: 113 problems; 65 are reserved, and this run asks for about 36 new ones"
    )
    assert supply.describe_supply(load_config(TINY, ["problems.numbers=3", "problems.max_value=60"], {}), 2).startswith(
        "countdown: about "
    )
    sets = [*settings_in(write_problems(tmp_path / "a")), "curriculum.problems=3000", "curriculum.new_share=0.8"]
    config = load_config(None, sets, {})
    assert supply.describe_supply(config, FOREVER) == (
        "file:problems.jsonl: 20 problems; 7 are reserved, and each round asks for about 2,400 new ones"
    )


# Search.


class Done:
    """The future of a task that has ended."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def add_done_callback(self, tell: object) -> None:
        assert callable(tell)
        tell(self)

    def result(self) -> Progress:
        return self.progress


def test_what_every_shard_came_to_is_reported_as_it_ends() -> None:
    ended = [Progress(stage="search", part=part, done=2, total=2, tried=16, solved=part) for part in (0, 1)]
    with heard_by(listener := Listener()):
        assert finish([Done(progress) for progress in ended]) == ended  # type: ignore[misc]
    assert listener.heard == ended


def test_a_shard_that_is_published_is_recalled(turned: Turned) -> None:
    home = Home(turned.wheel.home)
    turn, shard = turn_of(home, 1), Shard(index=1, first=8, last=16)
    found = search.fn(turn, shard, "no checkpoint", PolicySettings(), SearchSettings())
    query = "SELECT count(DISTINCT problem_id) AS n FROM trajectories WHERE round = 1 AND shard = 1 AND solved"
    (solved,) = Warehouse(home).query(query)["n"]
    assert found == Progress(stage="search", part=1, done=8, total=8, tried=8, solved=solved)
    assert 0 < solved <= 8


def test_a_run_that_ends_on_a_full_disk_has_ended_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(home: Home) -> Path:
        raise DiskFullError("the disk is full.")

    monkeypatch.setattr("flows.runs.publish_database", fill)
    home = make_home(tmp_path / "home")
    run = begin(home, num_rounds=1)
    with heard_by(listener := Listener()):
        publish(home, run, State.FINISHED)
    assert find_run(Warehouse(home), run.run_id).state == State.FINISHED
    assert listener.said == [
        "warehouse.duckdb lacks the end of this run: the disk is full. Then: flywheel sql --publish"
    ]


def test_a_plateau_that_makes_it_search_harder_is_told() -> None:
    config = load_config(None, ["run.on_plateau=search_harder", "run.plateau_after=3", "search.samples=8"], {})
    turn = Turn(root=Path("home"), line="a", run_id="b", round=9, seed=0)
    with watched_by(listener := Listener()):
        assert choose_effort(turn, config, 2) == config and listener.said == []
        assert choose_effort(turn, config, 3).search.samples == 16
    assert listener.said == [
        "round 9  refusals in a row: 3; it searches harder, with best_of_n(16, enough=4) a problem"
    ]


def test_an_unfinished_run_takes_the_settings_of_now_that_change_no_result(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    begun = begin(home, "run.workers=3", "learning.forward_tokens=512", num_rounds=2)
    assert from_json(begun.config).run.workers == 3
    again = begin(home, "run.workers=1", "run.retries=4", "run.rounds=9")
    config = from_json(again.config)
    assert (again.run_id, again.num_rounds) == (begun.run_id, 2)
    assert (config.run.workers, config.run.retries, config.learning.forward_tokens) == (1, 4, 0)
    with pytest.raises(RunError, match=r"search\.samples: 16 → 8"):
        begin(home, "search.samples=8")


# The preflight's estimate.


@pytest.mark.parametrize(
    ("cores", "sets", "num"),
    [
        (8, ["run.workers=2"], 2),
        (1, ["run.workers=2"], 1),
        (8, ["run.workers=16"], 6),
        (8, ["run.workers=4", "policy.threads=4"], 2),
        (8, ["run.workers=4", "policy.threads=0"], 1),
    ],
)
def test_shards_are_side_by_side_as_far_as_there_are_workers_and_cores(
    cores: int, sets: list[str], num: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.preflight.num_cores", lambda: cores)
    round_of_six = ["curriculum.problems=3000", "run.shard_problems=500", "policy.device=cpu"]
    assert num_busy(load_config(None, [*round_of_six, *sets], {})) == num


def test_the_estimate_says_which_time_it_does_not_know() -> None:
    assert tell_time(40.0, 20.0) == "about 60 seconds"
    assert tell_time(0.0, 20.0) == "about 20 seconds without search"
    assert tell_time(40.0, 0.0) == "about 40 seconds without training"
    assert tell_time(0.0, 0.0) == "time unknown"


# Splits.


def test_a_split_without_problems_is_told(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    begin(home, "splits.development=0")
    with pytest.raises(RunError, match=r"^splits\.development is 0; evaluate on another split, or "):
        evaluate_checkpoint(home, "champion", "development")
