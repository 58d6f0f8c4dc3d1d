"""Runs: which one goes on, which one is new, and which line a home holds.

A line is a policy family and its benchmark, and a home holds one for now. An unfinished
run goes on under the settings it began with; other settings need a new run.
"""

from dataclasses import replace
from importlib.metadata import version

from flows.config import Config, differences, from_json, to_json
from storage import history
from storage.home import Home
from storage.lake import Lake
from storage.records import Run, State, make_id, now
from storage.warehouse import Warehouse

FOREVER = 0
SHAPED_BY = ("problems", "scratch")
"""Sections that, with the reserved splits and the model, make a line what it is."""


class RunError(ValueError):
    """A run that cannot go on, or begin, as asked."""


def line_of(config: Config) -> str:
    """The line's name: `countdown-scratch-1f3a9c`."""
    identity = {name: getattr(config, name) for name in SHAPED_BY if name != "scratch" or config.is_scratch}
    reserved = config.splits.benchmark, config.splits.final
    digest = make_id("line", identity, reserved, config.policy.model)[:6]
    model = config.policy.model.rstrip("/").rpartition("/")[2]
    return f"{slug(config.problems.kind)}-{slug(model)}-{digest}"


def slug(text: str) -> str:
    """Letters, digits and hyphens."""
    return "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in text.lower()).split())[:40]


def begin_run(home: Home, config: Config, *, num_rounds: int, is_new: bool = False) -> Run:
    """The unfinished run of a home, else a new one. Raises RunError where that is not what is asked for."""
    warehouse = Warehouse(home)
    last = history.last_run(warehouse)
    check_line(last, config)
    if last is not None and last.state == State.RUNNING:
        if not is_new:
            check_unchanged(last, config, num_rounds)
            return last
        publish(home, last, State.ABANDONED)
    return publish(home, new_run(warehouse, config, num_rounds), State.RUNNING)


def new_run(warehouse: Warehouse, config: Config, num_rounds: int) -> Run:
    """A run that goes on where the line stands."""
    line = line_of(config)
    first = history.next_round(warehouse, line)
    started_at = now()
    return Run(
        run_id=make_id("run", line, first, started_at.isoformat()),
        line=line,
        state=State.RUNNING,
        first_round=first,
        num_rounds=num_rounds,
        config=to_json(config),
        version=version("flywheel"),
        started_at=started_at,
    )


def publish(home: Home, run: Run, state: State) -> Run:
    """Write where a run stands now."""
    row = replace(run, state=state, created_at=now())
    Lake(home).publish("runs", f"{run.run_id}-{state}", [row])
    return row


def check_line(last: Run | None, config: Config) -> None:
    """Raises RunError where the home holds another line than the configuration makes."""
    line = line_of(config)
    if last is not None and last.line != line:
        changed = "; ".join(differences(from_json(last.config), config))
        raise RunError(
            f"this home holds the line {last.line}, and the configuration makes the line {line} ({changed}). "
            "Give it a home of its own: FLYWHEEL_HOME=DIR; or take the change back."
        )


def check_unchanged(run: Run, config: Config, num_rounds: int) -> None:
    """Raises RunError where an unfinished run is asked to go on under other settings."""
    changed = differences(from_json(run.config), config)
    if run.num_rounds != num_rounds:
        changed.append(f"rounds: {run.num_rounds or 'for ever'} → {num_rounds or 'for ever'}")
    if changed:
        listed = "\n".join(f"  {line}" for line in changed)
        raise RunError(
            f"run {run.run_id} is unfinished and began with other settings:\n{listed}\n"
            "Take the changes back to finish it, or leave it and begin another from the champion: --new-run."
        )
