"""Runs: which one goes on, which one is new, and which line a home holds.

A line is a policy family and its benchmark, and a home holds one for now. An unfinished
run goes on under the settings it began with; other settings need a new run.
"""

import json
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from flows.config import Config, differences, from_json, to_json
from flows.config_layers import ConfigError
from models.evaluation.gate import mcnemar_p_value
from models.learning.settings import LearningSettings
from storage import history
from storage.demonstrations import file_demonstrations
from storage.home import DiskFullError, Home
from storage.lake import Lake
from storage.problems import open_source
from storage.publish import publish as publish_database
from storage.records import Promotion, Run, State, Verdict, make_id, now
from storage.registry import ADAPTERS, Registry
from storage.sources.file import FileProblems
from storage.warehouse import Warehouse
from tasks.progress import tell

FOREVER = 0
SHAPED_BY = ("problems", "splits", "scratch")
"""Sections that, with the model, make a line what it is."""
MAY_CHANGE = (
    *("run.rounds", "run.runner", "run.workers", "run.retries", "run.stage_timeout_s", "run.min_free_mb"),
    *("policy.device", "policy.train_device", "policy.server", "policy.patience_s", "policy.max_rows"),
    *("learning.forward_tokens", "learning.recompute", "learning.tensorboard"),
)
"""Settings that say where and how the work is done, not what it comes to: an unfinished run takes those of now."""


class RunError(ValueError):
    """A run that cannot go on, or begin, as asked."""


def line_of(config: Config) -> str:
    """The line's name: `countdown-scratch-1f3a9c`."""
    bare = without_folders(config)
    identity = {name: getattr(bare, name) for name in SHAPED_BY if name != "scratch" or config.is_scratch}
    spoken_to = [] if config.policy.chat == "auto" else [config.policy.chat]
    digest = make_id("line", identity, bare.policy.model, *spoken_to)[:6]
    return f"{slug(config.problems.kind)}-{slug(bare.policy.model)}-{digest}"


def as_now(config: Config, current: Config) -> Config:
    """A run's configuration with what may change in it as it is said now; as it is where the two do not fit."""
    kept, usual = (each.model_dump(mode="json") for each in (config, Config()))
    said = current.model_dump(mode="json")
    for section, key in (name.split(".") for name in MAY_CHANGE):
        if said[section][key] != usual[section][key]:
            kept[section][key] = said[section][key]
    try:
        return from_json(json.dumps(kept))
    except ConfigError:
        return config


def without_folders(config: Config) -> Config:
    """The same with every file, and the model, by its name alone: moved, it is the same."""
    problems, policy, initialization = config.problems, config.policy, config.initialization
    if isinstance(problems, FileProblems):
        benchmark = problems.benchmark_path
        problems = replace(problems, path=Path(problems.path.name), benchmark_path=benchmark and Path(benchmark.name))
    bare = {
        "problems": problems,
        "policy": replace(policy, model=Path(policy.model).name),
        "initialization": replace(initialization, file=Path(initialization.file).name),
    }
    return config.model_copy(update=bare)


def slug(text: str) -> str:
    """Letters, digits and hyphens."""
    return "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in text.lower()).split())[:40]


def begin_run(home: Home, config: Config, *, num_rounds: int | None = None, is_new: bool = False) -> Run:
    """The unfinished run of a home, else a new one. Raises ValueError where that is not what is asked for.

    Where no number of rounds is asked for, a run has its own, and a new one the configured. Raises DiskFullError
    where less than the floor is free, or would be.
    """
    home.require_space(0, "a run", floor_bytes=config.run.min_free_mb * 10**6)
    last = history.last_run(Warehouse(home))
    if last is not None:
        check_line(last, config)
    if last is not None and last.state == State.RUNNING and not is_new:
        check_unchanged(last, config, num_rounds)
        require_room(home, last, config)
        return relocate(home, last, config)
    check_beginning(home, last, config)
    run = make_run(Warehouse(home), config, config.run.rounds if num_rounds is None else num_rounds)
    require_room(home, run, config)
    if last is not None and last.state == State.RUNNING:
        publish(home, last, State.ABANDONED)
    return publish(home, run, State.RUNNING)


def make_run(warehouse: Warehouse, config: Config, num_rounds: int) -> Run:
    """A run that goes on where the line stands. Its id is its place in the home, so that the same history repeats."""
    line = line_of(config)
    first = history.next_round(warehouse, line)
    return Run(
        run_id=make_id("run", line, first, history.num_runs(warehouse)),
        line=line,
        state=State.RUNNING,
        first_round=first,
        num_rounds=num_rounds,
        config=to_json(config),
        version=version("flywheel"),
        started_at=now(),
    )


def publish(home: Home, run: Run, state: State) -> Run:
    """Write where a run stands now; what an ended one came to goes into the database for other tools too."""
    row = replace(run, state=state, created_at=now())
    Lake(home).publish("runs", f"{run.run_id}-{state}", [row])
    if state in (State.FINISHED, State.PLATEAU):
        try:
            publish_database(home)
        except DiskFullError as error:  # the run has ended all the same, and what it came to is still to be told
            tell(f"{home.published.name} lacks the end of this run: {error} Then: flywheel sql --publish")
    return row


def relocate(home: Home, run: Run, config: Config) -> Run:
    """An unfinished run with its files where they are now, and done as is wanted now: written where that changed."""
    old = from_json(run.config)
    serve = config.serve if config.run.runner == "workers" else old.serve  # whose orders go by that server
    moved = config.model_copy(update={"run": replace(config.run, rounds=old.run.rounds), "serve": serve})
    if moved == old:
        return run
    row, lake = replace(run, config=to_json(moved), created_at=now()), Lake(home)
    num_moves = sum(key.startswith(f"{run.run_id}-moved-") for key in lake.keys("runs"))
    lake.publish("runs", f"{run.run_id}-moved-{num_moves}", [row])
    return row


def require_room(home: Home, run: Run, config: Config) -> None:
    """Raises DiskFullError where what is left of a run would not fit."""
    purpose = "a round" if run.num_rounds == FOREVER else f"what is left of a run of {count_rounds(run.num_rounds)}"
    home.require_space(disk_need(home, run), purpose, floor_bytes=config.run.min_free_mb * 10**6)


def disk_need(home: Home, run: Run) -> int:
    """Bytes that what is left of a run takes, by what the rounds before took; 0 before the first. For ever is one."""
    warehouse = Warehouse(home)
    num_closed = history.next_round(warehouse, run.line) - 1
    num_left = 1 if run.num_rounds == FOREVER else run.num_rounds - history.num_rounds_done(warehouse, run.run_id)
    files = (path for folder in (home.lake, home.checkpoints) for path in folder.rglob("*") if path.is_file())
    return num_left * sum(path.stat().st_size for path in files) // num_closed if num_closed else 0


def count_rounds(num: int) -> str:
    """`1 round`, `6 rounds`, `rounds for ever`."""
    return "rounds for ever" if num == FOREVER else f"{num} round{'' if num == 1 else 's'}"


def check_beginning(home: Home, last: Run | None, config: Config) -> None:
    """Raises ValueError where a new run cannot begin so."""
    latest = Registry(home).latest(last.line) if last is not None else None
    if last is not None and latest is not None:
        check_initialization(last, config)
        check_adapters(home, latest, config)
    else:
        check_inputs(config)


def check_inputs(config: Config) -> None:
    """Raises ValueError where a line cannot begin: what is told before a run leaves the home as it was."""
    open_source(config.problems, config.splits).reserved()
    if config.initialization.file:
        for _ in file_demonstrations(Path(config.initialization.file)):
            pass
    if not config.is_scratch:
        from models.policy.find import find_model  # slow to import

        folder = find_model(config.policy.model)
        if (folder / ADAPTERS).exists():
            raise ValueError(
                f"policy.model {config.policy.model!r} is adapters alone, and a line begins with whole weights: merge "
                "them by PEFT's merge_and_unload, and name the folder that its save_pretrained wrote"
            )
        from models.policy.load import load_tokenizer  # slower still

        load_tokenizer(folder)


def check_line(last: Run, config: Config) -> None:
    """Raises RunError where the home holds another line than the configuration makes."""
    if last.line != line_of(config) or not is_same_model(last, config):
        shaping = (*(f"{section}." for section in SHAPED_BY), "policy.model:")
        changed = "; ".join(text for text in differences(from_json(last.config), config) if text.startswith(shaping))
        raise RunError(
            f"this home holds the line {last.line}, and the configuration makes another ({changed}). "
            "Give it a home of its own: FLYWHEEL_HOME=DIR; or take the change back."
        )


def is_same_model(last: Run, config: Config) -> bool:
    """Whether a model of the same name may be the same: as it was, or in a folder, where people may have moved it."""
    was, is_now = json.loads(last.config)["policy"]["model"], config.policy.model
    return is_now == was or Path(is_now).expanduser().is_dir()


def check_initialization(last: Run, config: Config) -> None:
    """Raises RunError where a line's initial policy, which is made, is asked to be made otherwise."""
    was, usual = json.loads(last.config)["initialization"], asdict(Config().initialization)
    was["file"] = Path(was.get("file", "")).name
    changed = [
        f"initialization.{key}: {was.get(key)} → {value}"
        for key, value in asdict(without_folders(config).initialization).items()
        if value not in (was.get(key), usual[key])  # the default of another version is nobody's wish
    ]
    if changed:
        raise RunError(
            f"this home has its initial policy, and other settings of it ({'; '.join(changed)}) would do nothing. "
            "Give them a home of their own: FLYWHEEL_HOME=DIR; or take the change back."
        )


def check_adapters(home: Home, latest: Promotion, config: Config) -> None:
    """Raises RunError where the next round would begin with adapters that cannot learn on as they are asked to."""
    if not config.learning.keep_adapters:
        return
    from models.policy.adapters import find_adapter  # slow to import

    registry = Registry(home)
    adapter = find_adapter(
        registry.open(find_start(registry, latest.line, latest.champion_id, config, config.learning))
    )
    if adapter and adapter.rank != config.learning.lora_rank:
        raise RunError(
            f"a round would go on with adapters of rank {adapter.rank}, and learning.lora_rank is "
            f"{config.learning.lora_rank}: set it to {adapter.rank}; or merge them from now on, "
            "learning.keep_adapters=false"
        )


def find_start(registry: Registry, line: str, champion_id: str, config: Config, learning: LearningSettings) -> str:
    """The champion, the initial policy, or the last candidate unless it was significantly worse than the champion."""
    if learning.start == "initial":
        return registry.lineage(champion_id)[-1].checkpoint_id
    latest = registry.latest(line)
    was_refused = latest is not None and latest.verdict == Verdict.REFUSED
    if latest and was_refused and learning.goes_on and not is_worse(latest, config.gate.alpha):
        return latest.candidate_id
    return champion_id


def is_worse(refused: Promotion, alpha: float) -> bool:
    """Whether a candidate was significantly worse than the champion: the gate's test, the other way round."""
    return mcnemar_p_value(refused.losses, refused.wins) < alpha


def check_unchanged(run: Run, config: Config, num_rounds: int | None) -> None:
    """Raises RunError where an unfinished run is asked to go on under other settings."""
    old, new = without_folders(from_json(run.config)), without_folders(config)
    changed = [line for line in differences(old, new) if line.split(":")[0] not in MAY_CHANGE]
    if num_rounds not in (None, run.num_rounds):
        changed.append(f"rounds: {run.num_rounds or 'for ever'} → {num_rounds or 'for ever'}")
    if changed:
        listed = "\n".join(f"  {line}" for line in changed)
        raise RunError(
            f"run {run.run_id} is unfinished and began with other settings:\n{listed}\n"
            "Take the changes back to finish it, or leave it and begin another from the champion: --new-run."
        )
