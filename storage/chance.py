"""What needs no policy: how much chance solves, and what trying everything costs. They stand beside an accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from storage.countdown import CountdownProblems, brute_force, uniform_play
from storage.problems import ProblemSettings
from storage.records import Problem
from storage.sources.gym import GymProblems
from storage.warehouse import Warehouse

MAX_WALKS = 20_000
GYM_TARGETS = {"min_target": 100, "max_target": 999}
"""The targets of reasoning-gym's Countdown where its params say no others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chance:
    """Baselines on a set of problems: `Chance(uniform_play=0.21, brute_force=160.5)`; None where there is no game."""

    uniform_play: float | None = None
    """Share that uniform legal play solves."""
    brute_force: float | None = None
    """Mean complete walks until trying everything in order hits; those never hit count as MAX_WALKS."""


def measure_chance(settings: ProblemSettings, problems: Sequence[Problem]) -> Chance:
    """Play and try on these very problems; about a second for 2,000 of three numbers, a minute for those of six."""
    if not problems or any(problem.verifier != "countdown" for problem in problems):
        return Chance()
    play = partial(uniform_play, targets=targets_of(settings))
    walks = [num_walks if hit else MAX_WALKS for hit, num_walks in (brute_force(p, MAX_WALKS) for p in problems)]
    return Chance(uniform_play=fmean(map(play, problems)), brute_force=fmean(walks))


def targets_of(settings: ProblemSettings) -> range:
    """Every target that a Countdown problem of this source may have."""
    if isinstance(settings, CountdownProblems):
        return settings.targets
    assert isinstance(settings, GymProblems), f"{settings.kind} makes no Countdown problems"
    said = GYM_TARGETS | settings.params
    return range(said["min_target"], said["max_target"] + 1)


def known_chance(warehouse: Warehouse, line: str, split: str) -> Chance | None:
    """What an earlier evaluation of the line measured on the same split; None before the first."""
    found = warehouse.query(
        "SELECT chance, brute_force FROM evaluations WHERE line = $line AND split = $split LIMIT 1",
        line=line,
        split=split,
    )
    return Chance(uniform_play=found["chance"].item(), brute_force=found["brute_force"].item()) if len(found) else None
