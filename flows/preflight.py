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
from flows.terminal import minutes, shorten
from storage import history
from storage.home import megabytes
from storage.records import Checkpoint
from tasks.evaluate import PASS_SAMPLES
from tasks.sample import sample
from tasks.search import Shard
from tasks.turn import Turn

NUM_PROBLEMS = 64
"""Fewer where a round has fewer."""
MAX_TRUNCATED = 0.2
SHOWN_CHARS = 300


class HopelessError(ValueError):
    """The wheel would turn for nothing; the message says what to change."""


def look_ahead(turn: Turn, config: Config) -> None:
    """Raises HopelessError when the wheel would turn for nothing, DiskFullError when it would not fit."""
    stages = Stages.of(turn, config)
    with stages("preflight"):
        num_problems = choose_problems(turn, config)
        champion_id = turn.registry.champion(turn.line)
        search_shards(turn, champion_id, [Shard(index=0, first=0, last=1)], config)  # loads the policy
        started = monotonic()
        search_shards(turn, champion_id, [Shard(index=1, first=1, last=num_problems)], config)
        seconds = monotonic() - started
    found = history.preflight(turn.warehouse, turn.run_id)
    for line in [*describe(found), estimate(turn, config, found, seconds)]:
        stages.watcher.say(line)
    check(found, config)


def choose_problems(turn: Turn, config: Config) -> int:
    """Draw the problems to try; says how many."""
    settings = replace(config.curriculum, problems=min(NUM_PROBLEMS, config.curriculum.problems))
    draw = prepared(sample, "start · preflight problems", config)
    return draw(turn, config.problems, config.splits, settings)


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
            f"Raise policy.max_new_tokens, to {2 * config.policy.max_new_tokens} say, and begin again: "
            "flywheel run --new-run."
        )


def estimate(turn: Turn, config: Config, found: dict[str, Any], search_s: float) -> str:
    """What the run will take, in a line; rough, for lengths and speeds change as the policy learns."""
    rounds = config.run.rounds
    initial = turn.registry.lineage(turn.registry.champion(turn.line))[-1]
    answers = rounds * num_answers(config)
    answering_s = search_s * answers / found["num_trajectories"]
    training_s = num_learnt(config, found) * seconds_a_token(initial)
    disk = round(answers * bytes_an_answer(turn, found) + 2 * rounds * folder_bytes(turn, initial))
    turn.home.require_space(disk, f"a run of {rounds} rounds", floor_bytes=config.run.min_free_mb * 10**6)
    return (
        f"estimate for {rounds} rounds: about {minutes(answering_s + training_s)}"
        f"{'' if initial.seconds else ' without training'}, {megabytes(disk)} of disk "
        f"({megabytes(turn.home.free_bytes())} free), memory so far {megabytes(peak_bytes())}"
    )


def num_answers(config: Config) -> int:
    """Answers that a round generates, in search and in the evaluation of its candidate."""
    sampled = PASS_SAMPLES * min(config.evaluation.pass_problems, config.splits.benchmark)
    return config.curriculum.problems * config.search.samples + config.splits.benchmark + sampled


def num_learnt(config: Config, found: dict[str, Any]) -> float:
    """Tokens that a run trains on, prompts as long as answers: each round on what it kept, and those before it."""
    kept = min(config.filter.max_per_problem, config.search.samples * found["solved_share"])
    a_round = kept * config.curriculum.problems * 2 * found["mean_tokens"] * config.learning.epochs
    fade = config.learning.fade
    return float(sum(a_round * fade**age for number in range(config.run.rounds) for age in range(number + 1)))


def seconds_a_token(initial: Checkpoint) -> float:
    """What a token took in the making of the initial policy; 0 where that was not made here."""
    return initial.seconds / initial.num_tokens if initial.num_tokens else 0.0


def bytes_an_answer(turn: Turn, found: dict[str, Any]) -> float:
    """What an attempt takes in the lake."""
    parts = (turn.lake.path("trajectories", key) for key in turn.lake.keys("trajectories") if turn.part in key)
    return float(sum(part.stat().st_size for part in parts) / found["num_trajectories"])


def folder_bytes(turn: Turn, checkpoint: Checkpoint) -> int:
    """What a checkpoint takes."""
    return sum(path.stat().st_size for path in turn.registry.open(checkpoint.checkpoint_id).iterdir())


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
