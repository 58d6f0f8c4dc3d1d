"""Runs: which one goes on, which one is new, and which line a home holds.

A line is a policy family and its benchmark, and a home holds one for now. An unfinished
run goes on under the settings it began with; other settings need a new run.
"""

import json
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from flows.config import Config, differences, from_json, to_json
from storage import history
from storage.demonstrations import file_demonstrations
from storage.home import Home
from storage.lake import Lake
from storage.problems import open_source
from storage.records import Run, State, make_id, now
from storage.warehouse import Warehouse

FOREVER = 0
SHAPED_BY = ("problems", "splits", "scratch")
"""Sections that, with the model, make a line what it is."""


class RunError(ValueError):
    """A run that cannot go on, or begin, as asked."""


def line_of(config: Config) -> str:
    """The line's name: `countdown-scratch-1f3a9c`."""
    identity = {name: getattr(config, name) for name in SHAPED_BY if name != "scratch" or config.is_scratch}
    digest = make_id("line", identity, config.policy.model)[:6]
    model = config.policy.model.rstrip("/").rpartition("/")[2]
    return f"{slug(config.problems.kind)}-{slug(model)}-{digest}"


def slug(text: str) -> str:
    """Letters, digits and hyphens."""
    return "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in text.lower()).split())[:40]


def begin_run(home: Home, config: Config, *, num_rounds: int, is_new: bool = False) -> Run:
    """The unfinished run of a home, else a new one. Raises ValueError where that is not what is asked for.

    Raises DiskFullError where less than the floor is free.
    """
    home.require_space(0, "a run", floor_bytes=config.run.min_free_mb * 10**6)
    last = history.last_run(Warehouse(home))
    if last is not None and last.state == State.RUNNING and not is_new:
        check_line(last, config)
        check_unchanged(last, config, num_rounds)
        return last
    if last is None:
        check_inputs(config)
    else:
        check_line(last, config)
        check_initialization(last, config)
    run = make_run(Warehouse(home), config, num_rounds)
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
    """Write where a run stands now."""
    row = replace(run, state=state, created_at=now())
    Lake(home).publish("runs", f"{run.run_id}-{state}", [row])
    return row


def check_inputs(config: Config) -> None:
    """Raises ValueError where a line cannot begin: what is told before the first run leaves the home as it was."""
    open_source(config.problems, config.splits).reserved()
    if config.initialization.file:
        for _ in file_demonstrations(Path(config.initialization.file)):
            pass
    if not config.is_scratch:
        from models.policy.load import find_model  # slow to import

        find_model(config.policy.model)


def check_line(last: Run, config: Config) -> None:
    """Raises RunError where the home holds another line than the configuration makes."""
    line = line_of(config)
    if last.line != line:
        shaping = (*(f"{section}." for section in SHAPED_BY), "policy.model:")
        changed = "; ".join(text for text in differences(from_json(last.config), config) if text.startswith(shaping))
        raise RunError(
            f"this home holds the line {last.line}, and the configuration makes the line {line} ({changed}). "
            "Give it a home of its own: FLYWHEEL_HOME=DIR; or take the change back."
        )


def check_initialization(last: Run, config: Config) -> None:
    """Raises RunError where a line's initial policy, which is made, is asked to be made otherwise."""
    was, usual = json.loads(last.config)["initialization"], asdict(Config().initialization)
    changed = [
        f"initialization.{key}: {was.get(key)} → {value}"
        for key, value in asdict(config.initialization).items()
        if value not in (was.get(key), usual[key])  # the default of another version is nobody's wish
    ]
    if changed:
        raise RunError(
            f"this home has its initial policy, and other settings of it ({'; '.join(changed)}) would do nothing. "
            "Give them a home of their own: FLYWHEEL_HOME=DIR; or take the change back."
        )


def check_unchanged(run: Run, config: Config, num_rounds: int) -> None:
    """Raises RunError where an unfinished run is asked to go on under other settings."""
    changed = [line for line in differences(from_json(run.config), config) if not line.startswith("run.rounds:")]
    if run.num_rounds != num_rounds:
        changed.append(f"rounds: {run.num_rounds or 'for ever'} → {num_rounds or 'for ever'}")
    if changed:
        listed = "\n".join(f"  {line}" for line in changed)
        raise RunError(
            f"run {run.run_id} is unfinished and began with other settings:\n{listed}\n"
            "Take the changes back to finish it, or leave it and begin another from the champion: --new-run."
        )
