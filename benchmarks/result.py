"""How a benchmark ends: a table for people, and one JSON object as the last line for programs."""

import json
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence


def conclude(
    name: str,
    figures: Mapping[str, float],
    goals: Mapping[str, float],
    *,
    at_most: Sequence[str] = (),
    seeds: Sequence[int],
) -> None:
    """Print figures beside their goals; a figure in `at_most` has to stay below its goal, others above."""
    met = all(figures[key] <= goal if key in at_most else figures[key] >= goal for key, goal in goals.items())
    for key, figure in figures.items():
        goal = f"   goal {'at most' if key in at_most else 'at least'} {goals[key]:g}" if key in goals else ""
        print(f"{key:32} {figure:12.4g}{goal}")
    known = {key: figure if math.isfinite(figure) else None for key, figure in figures.items()}
    result = {"name": name, "figures": known, "goals": dict(goals), "met": met}
    print(json.dumps({**result, "machine": describe_machine(), "seeds": list(seeds)}))


def describe_machine() -> str:
    """Processor, GPU where torch is in use and sees one, cores we may use, Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch = sys.modules.get("torch")
    gpu = f"{torch.cuda.get_device_name()}, " if torch and torch.cuda.is_available() else ""
    return f"{read_processor()}, {gpu}{cores} cores, Python {platform.python_version()}"


def read_processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
