"""What orchestration costs: wall time of the rounds over the time inside models and storage.

Every function of models/ and storage/ that a task or flow calls is timed where it is
called, but for what loads a policy; Prefect, imports, model loading and all of our own glue
are the rest. Times that overlap count once. `--rounds N` and `--home DIR` change the run.
"""

import argparse
import functools
import importlib
import inspect
import pkgutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock, local
from time import monotonic
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.result import conclude
from flows.config import Config, load_config
from flows.orchestrator import start_prefect
from flows.runs import begin_run
from storage.home import Home
from storage.lake import Lake

GOAL = 1.05
LOADING = {"borrowed_engine", "open_engine", "load_policy", "release_engines"}


class Stopwatch:
    """Intervals of computing, from every thread."""

    def __init__(self) -> None:
        self.intervals: list[tuple[float, float]] = []
        self._lock = Lock()
        self._depth = local()

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed; calls within calls count once."""
        if inspect.isgeneratorfunction(function):
            return functools.wraps(function)(lambda *args, **kwargs: self._each(function(*args, **kwargs)))
        return functools.wraps(function)(lambda *args, **kwargs: self._time(lambda: function(*args, **kwargs)))

    def _each(self, generator: Iterator[Any]) -> Iterator[Any]:
        end = object()
        while (item := self._time(lambda: next(generator, end))) is not end:
            yield item

    def _time(self, call: Callable[[], Any]) -> Any:
        depth = getattr(self._depth, "value", 0)
        self._depth.value, started = depth + 1, monotonic()
        try:
            return call()
        finally:
            self._depth.value = depth
            if depth == 0:
                with self._lock:
                    self.intervals.append((started, monotonic()))

    def seconds(self, spans: list[tuple[float, float]]) -> float:
        """Computing inside the spans, overlaps once."""
        total, covered = 0.0, float("-inf")
        for start, end in sorted(self.intervals):
            start = max(start, covered)
            total += sum(max(0.0, min(end, last) - max(start, first)) for first, last in spans)
            covered = max(covered, end)
        return total


def time_everything(watch: Stopwatch) -> None:
    """Replace what tasks and flows imported from models and storage by its timed self."""
    for room in ("tasks", "flows"):
        package = importlib.import_module(room)
        for found in pkgutil.iter_modules(package.__path__, f"{room}."):
            if found.name not in ("flows.cli", "flows.config_docs"):
                time_module(importlib.import_module(found.name), watch)
    from storage.registry import Registry
    from storage.warehouse import Warehouse

    for kind in (Lake, Registry, Warehouse):
        for name, method in vars(kind).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                setattr(kind, name, watch.wrap(method))


def time_module(module: Any, watch: Stopwatch) -> None:
    """Replace one module's imports."""
    for name, value in list(vars(module).items()):
        comes_from = getattr(value, "__module__", "") or ""
        if inspect.isfunction(value) and comes_from.startswith(("models.", "storage.")) and name not in LOADING:
            setattr(module, name, watch.wrap(value))


def main() -> None:
    """Turn the default wheel and measure it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="sets")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home.open(arguments.home or Path(folder) / "home")
        with home.writer():
            measure(home, load_config(None, arguments.sets, {}), arguments.rounds)


def measure(home: Home, config: Config, num_rounds: int) -> None:
    """One run in this process."""
    Lake(home).seed()
    run = begin_run(home, config, num_rounds=num_rounds)
    server = start_prefect(home)
    watch = Stopwatch()
    time_everything(watch)
    flywheel = importlib.import_module("flows.flywheel")
    spans: list[tuple[float, float]] = []
    turn_wheel = flywheel.turn_wheel

    def timed(*args: Any) -> Any:
        started = monotonic()
        row = turn_wheel(*args)
        spans.append((started, monotonic()))
        return row

    flywheel.turn_wheel = timed  # type: ignore[attr-defined]
    importlib.import_module("flows.launch").launch(home, run, server)
    wall, computing = sum(last - first for first, last in spans), watch.seconds(spans)
    figures = {"orchestration_ratio": wall / computing, "wall_s": wall, "computing_s": computing, "rounds": len(spans)}
    conclude(
        "overhead", figures, {"orchestration_ratio": GOAL}, at_most=["orchestration_ratio"], seeds=[config.run.seed]
    )


if __name__ == "__main__":
    main()
