"""A look before the leap: some problems, some attempts, what they say of the run to come, and whether to go on.

It tells an estimate of time, disk and memory, and stops with advice when nothing
is solved, for then nothing would be learnt, or when too much is cut off.
"""

import resource
from dataclasses import replace
from time import monotonic
from typing import Any

from flows.config import Config
from flows.round import prepared, search_shards
from flows.stages import Stages
from flows.terminal import shorten
from storage import history
from storage.home import megabytes
from tasks.sample import sample
from tasks.turn import Turn

NUM_PROBLEMS = 64
MAX_TRUNCATED = 0.2
SHOWN_CHARS = 300


class HopelessError(ValueError):
    """The wheel would turn for nothing; the message says what to change."""


def look_ahead(turn: Turn, config: Config) -> None:
    """Raises HopelessError when the wheel would turn for nothing."""
    stages = Stages.of(turn, config)
    settings = replace(config.curriculum, problems=min(NUM_PROBLEMS, config.curriculum.problems))
    with stages("preflight"):
        num_problems = prepared(sample, "start · preflight problems", config)(
            turn, config.problems, config.splits, settings
        )
        started = monotonic()
        search_shards(turn, turn.registry.champion(turn.line), num_problems, config)
        seconds = monotonic() - started
    found = history.preflight(turn.warehouse, turn.line)
    for line in describe(found):
        stages.watcher.say(line)
    for line in estimate(turn, config, found, seconds):
        stages.watcher.say(line)
    check(found, config)


def describe(found: dict[str, Any]) -> list[str]:
    """The shares, and three texts as the policy wrote them."""
    shares = ", ".join(f"{name} {found[f'{name}_share']:.0%}" for name in ("solved", "truncated", "unparsed", "failed"))
    head = (
        f"preflight: {found['num_problems']} problems, {found['num_trajectories']} attempts: {shares}; "
        f"{found['mixed_share']:.0%} of the problems with both right and wrong answers"
    )
    samples = zip(found["prompts"], found["texts"], found["reasons"], strict=True)
    return [head, *(shorten(f"  {reason:>9}  {prompt} {text}", SHOWN_CHARS) for prompt, text, reason in samples)]


def check(found: dict[str, Any], config: Config) -> None:
    """Raises HopelessError with advice."""
    if not found["solved_share"]:
        raise HopelessError(
            f"none of {found['num_trajectories']} attempts was right, so there is nothing to learn from. Take easier "
            "problems, a stronger policy.model or demonstrations (initialization.file); the texts above show how it "
            "answers, and whether the prompt asks for what the verifier reads."
        )
    if found["truncated_share"] > MAX_TRUNCATED:
        raise HopelessError(
            f"{found['truncated_share']:.0%} of the attempts were cut off at {config.policy.max_new_tokens} tokens. "
            f"Raise policy.max_new_tokens, to {2 * config.policy.max_new_tokens} say."
        )


def estimate(turn: Turn, config: Config, found: dict[str, Any], seconds: float) -> list[str]:
    """What the run will take, in a line; rough, for lengths and speeds change as the policy learns."""
    num_attempts = found["num_trajectories"]
    num_answers = config.curriculum.problems * config.search.samples
    num_answers += config.splits.benchmark + 8 * min(config.evaluation.pass_problems, config.splits.benchmark)
    initial = turn.registry.lineage(turn.registry.champion(turn.line))[-1]
    speed = initial.num_tokens / initial.seconds if initial.seconds else None
    kept = (
        min(config.filter.max_per_problem, config.search.samples * found["solved_share"]) * config.curriculum.problems
    )
    learnt = kept * 2 * found["mean_tokens"] * config.learning.epochs
    search_s = seconds * num_answers / num_attempts
    learn_s = learnt / speed if speed else 0.0
    part = turn.lake.path("trajectories", f"{turn.key}-s0000").stat().st_size / num_attempts
    folder = sum(path.stat().st_size for path in turn.registry.open(initial.checkpoint_id).iterdir())
    need = round(config.run.rounds * (part * num_answers + 2 * folder))
    turn.home.require_space(need, f"a run of {config.run.rounds} rounds")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return [
        f"estimate for {config.run.rounds} rounds: about {minutes(config.run.rounds * (search_s + learn_s))} "
        f"{'' if speed else 'without training'}, {megabytes(need)} of disk "
        f"({megabytes(turn.home.free_bytes())} free), memory so far {megabytes(peak)}"
    ]


def minutes(seconds: float) -> str:
    """`40 seconds`, `7 minutes`, `3.5 hours`."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
