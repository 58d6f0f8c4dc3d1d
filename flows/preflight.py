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
from flows.runs import FOREVER, count_rounds
from flows.stages import Stages
from models.cores import num_cores
from models.policy.load import choose_device
from storage import history
from storage.home import megabytes
from storage.records import Checkpoint
from tasks.evaluate import PASS_SAMPLES
from tasks.sample import sample
from tasks.search import Shard, cut
from tasks.turn import Turn
from tasks.wording import minutes, shorten

NUM_PROBLEMS = 64
"""Fewer where a round has fewer."""
NUM_SAMPLES = 8
"""Attempts at each, whatever a round makes."""
ATTEMPTS: dict[str, Any] = {"strategy": "best_of_n", "samples": NUM_SAMPLES, "enough": 0}
"""How they are made, whatever the strategy of rounds."""
MAX_TRUNCATED = 0.2
SHOWN_CHARS = 300


class HopelessError(ValueError):
    """The wheel would turn for nothing; the message says what to change."""


def look_ahead(turn: Turn, config: Config, num_rounds: int) -> None:
    """Raises HopelessError when the wheel would turn for nothing, DiskFullError when it would not fit."""
    stages = Stages.of(turn, config)
    with stages("preflight"):
        answer_s = try_problems(turn, config, choose_problems(turn, config))
    found = history.preflight(turn.warehouse, turn.run_id)
    for line in [*describe(found), estimate(turn, config, num_rounds, found, answer_s)]:
        stages.watcher.say(line)
    check(found, config)


def try_problems(turn: Turn, config: Config, num_problems: int) -> float:
    """Search them; gives the seconds that an answer took, 0 where none was generated, for all were there before."""
    few = config.model_copy(update={"search": replace(config.search, **ATTEMPTS)})
    champion_id = turn.registry.champion(turn.line)
    search_shards(turn, champion_id, [Shard(index=0, first=0, last=1)], few)  # loads the policy
    started = monotonic()
    (found,) = search_shards(turn, champion_id, [Shard(index=1, first=1, last=num_problems)], few)
    return (monotonic() - started) / (found.done * NUM_SAMPLES) if found.tokens else 0.0


def choose_problems(turn: Turn, config: Config) -> int:
    """Draw the problems to try; says how many."""
    settings = replace(config.curriculum, problems=min(NUM_PROBLEMS, config.curriculum.problems))
    draw = prepared(sample, "start · preflight problems", config)
    return draw(turn, config.problems, config.splits, settings, replace(config.search, adaptive=False))


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
    if found["truncated_share"] > MAX_TRUNCATED:
        raise HopelessError(
            f"{found['truncated_share']:.0%} of the attempts were cut off at {config.policy.max_new_tokens} tokens. "
            f"Raise policy.max_new_tokens, to {2 * config.policy.max_new_tokens} say, and begin again: "
            "flywheel run --new-run."
        )
    if not found["solved_share"]:
        raise HopelessError(
            f"none of {found['num_trajectories']} attempts was right, so there is nothing to learn from. Take easier "
            "problems, a stronger policy.model or demonstrations (initialization.file); the texts above show how it "
            "answers, and whether the prompt asks for what the verifier reads."
        )


def estimate(turn: Turn, config: Config, num_rounds: int, found: dict[str, Any], answer_s: float) -> str:
    """What the run will take, in a line, or one round where it has no end; rough, for lengths and speeds change."""
    rounds = 1 if num_rounds == FOREVER else num_rounds
    initial = turn.registry.lineage(turn.registry.champion(turn.line))[-1]
    searched, evaluated = rounds * num_searched(config, found), rounds * num_evaluated(config)
    if answer_s and found["evaluated_token_s"]:  # few problems do not fill a batch, those of an evaluation do
        answer_s = min(answer_s, found["evaluated_token_s"] * found["mean_tokens"])
    answering_s = answer_s * (searched / num_busy(config) + evaluated)
    training_s = num_learnt(config, rounds, found) * seconds_a_token(initial)
    weights = 0 if config.learning.keep_adapters else 2 * rounds * folder_bytes(turn, initial)
    disk = round((searched + evaluated) * bytes_an_answer(turn, found) + weights)
    turn.home.require_space(disk, f"a run of {count_rounds(rounds)}", floor_bytes=config.run.min_free_mb * 10**6)
    return (
        f"rough estimate for {count_rounds(rounds)}: {tell_time(answering_s, training_s)}, {megabytes(disk)} of disk "
        f"({megabytes(turn.home.free_bytes())} free); peak memory of this process so far: {megabytes(peak_bytes())}"
    )


def tell_time(answering_s: float, training_s: float) -> str:
    """`about 7 minutes`, and what is not in it, for that nobody timed here."""
    if not answering_s + training_s:
        return "time unknown"
    lacking = "" if answering_s and training_s else " without training" if answering_s else " without search"
    return f"about {minutes(answering_s + training_s)}{lacking}"


def num_searched(config: Config, found: dict[str, Any]) -> float:
    """Answers that a round's search generates; for trees, what as many tokens make."""
    if config.search.strategy != "best_of_n":
        return config.curriculum.problems * config.search.tokens / max(1.0, float(found["mean_tokens"]))
    samples = float(config.search.samples)
    if config.search.enough and found["solved_share"]:
        samples = min(samples, config.search.enough / found["solved_share"])
    return config.curriculum.problems * samples


def num_evaluated(config: Config) -> int:
    """Answers that the evaluation of a round's candidate generates, one problem after another."""
    return config.splits.benchmark + PASS_SAMPLES * min(config.evaluation.pass_problems, config.splits.benchmark)


def num_busy(config: Config) -> int:
    """Search shards of a round at work side by side, on a CPU no more than there are cores for their threads."""
    at_once = min(config.run.workers, len(cut(config.curriculum.problems, config.run.shard_problems)))
    if choose_device(config.policy.device) != "cpu":
        return at_once
    cores = num_cores()
    return max(1, min(at_once, cores // (config.policy.threads or cores)))


def num_learnt(config: Config, rounds: int, found: dict[str, Any]) -> float:
    """Tokens that a run trains on, where each round finds as many solutions as the first: its own, and those before."""
    kept = config.curriculum.problems * min(config.filter.max_per_problem, found["distinct_right"])
    a_round = kept * (found["mean_prompt_tokens"] + found["mean_tokens"]) * config.learning.epochs
    fade = config.learning.fade
    return float(sum(a_round * fade**age for number in range(rounds) for age in range(number + 1)))


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
