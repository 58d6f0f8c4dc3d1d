"""One round: sample problems, search them, filter, fine-tune, evaluate, and let the gate decide."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from queue import Empty, SimpleQueue
from time import monotonic
from typing import ParamSpec, TypeVar

from prefect import Task
from prefect.futures import PrefectFuture

from flows.config import Config
from flows.runs import find_start
from flows.stages import Stages
from flows.workers import search_by_workers
from models.learning.settings import LearningSettings
from models.policy.load import gpus_of, sampling_gpus
from storage.records import Evaluation, Promotion, Round, Split, now
from storage.registry import LostRaceError
from tasks.child import ask_children_to_stop
from tasks.evaluate import evaluate
from tasks.filter import select
from tasks.finetune import train
from tasks.progress import Progress, StoppedError, check_stop, report
from tasks.promote import promote
from tasks.report import close_round
from tasks.sample import sample
from tasks.search import Shard, cut, search
from tasks.turn import Turn

P = ParamSpec("P")
R = TypeVar("R")

RETRY_DELAY_S = 2
LOOK_S = 0.2


def gpus_of_round(config: Config) -> list[str]:
    """GPUs that are held from a round's first stage to its last; else whoever works holds them, for a stage."""
    if config.run.runner == "workers":
        return []
    return [*sampling_gpus(config.policy), *gpus_of(config.policy.trains_on, config.learning.processes)]


def turn_wheel(turn: Turn, config: Config) -> Round:
    """Do what is left of a round; every stage finds in the lake what was done of it before."""
    stages, started_at, started = Stages.of(turn, config), now(), monotonic()
    champion_id = turn.registry.champion(turn.line)
    with stages("sample"):
        draw = prepared(sample, f"{turn.label} · sample", config)
        num_problems = draw(turn, config.problems, config.splits, config.curriculum, config.search)
    with stages("search", total=num_problems):
        search_shards(turn, champion_id, cut(num_problems, config.run.shard_problems), config)
    with stages("filter"):
        selection_id = prepared(select, f"{turn.label} · filter", config)(turn, config.filter)
    with stages("finetune"):
        candidate_id = make_candidate(turn, champion_id, selection_id, config.learning.at(turn.round), config)
    promotion, _ = judge(turn, candidate_id, stages, config)
    return close(turn, promotion, stages, config, started_at=started_at, seconds=monotonic() - started)


def prepared(stage: Task[P, R], name: str, config: Config) -> Task[P, R]:
    """A task under a name that says round and shard, with the retries and time-out of the configuration."""
    return stage.with_options(
        task_run_name=name,
        retries=config.run.retries,
        retry_delay_seconds=RETRY_DELAY_S,
        timeout_seconds=config.run.stage_timeout_s,
    )


def search_shards(turn: Turn, checkpoint_id: str, shards: Sequence[Shard], config: Config) -> list[Progress]:
    """Search every shard, as many at a time as whoever runs them has room for; gives what each came to."""
    if config.run.runner == "workers":
        return search_by_workers(turn, checkpoint_id, shards, config)
    futures = [
        prepared(search, f"{turn.label} · search {shard.index + 1} of {shards[-1].index + 1}", config).submit(
            turn, shard, checkpoint_id, config.policy, config.search
        )
        for shard in shards
    ]
    try:
        return finish(futures)
    except StoppedError:
        ask_children_to_stop()
        raise


def finish(futures: Sequence[PrefectFuture[Progress]]) -> list[Progress]:
    """Wait for all, and report each as it ends, for a process of its own is heard by nobody.

    Raises what one of them raises, and StoppedError where the work should stop.
    """
    done: SimpleQueue[PrefectFuture[Progress]] = SimpleQueue()
    for future in futures:
        future.add_done_callback(done.put)
    for _ in futures:
        report(first_of(done).result())
    return [future.result() for future in futures]


def first_of(done: "SimpleQueue[PrefectFuture[Progress]]") -> PrefectFuture[Progress]:
    """The next that ends. Raises StoppedError where the work should stop."""
    while True:
        check_stop()
        with suppress(Empty):
            return done.get(timeout=LOOK_S)


def make_candidate(turn: Turn, champion_id: str, selection_id: str, learning: LearningSettings, config: Config) -> str:
    """Fine-tune, with the learning settings of the round, from the weights that these name."""
    finetune = prepared(train, f"{turn.label} · finetune", config)
    return finetune(
        turn,
        find_start(turn.registry, turn.line, champion_id, config, learning),
        selection_id,
        learning,
        config.policy,
        config.search,
    )


def judge(turn: Turn, candidate_id: str, stages: Stages, config: Config) -> tuple[Promotion, Evaluation]:
    """The gate's decision on a candidate, and its evaluation; asked again where another champion came meanwhile."""
    decide = prepared(promote, f"{turn.label} · promote", config)
    while True:
        with stages("evaluate"):
            candidate = measure(turn, candidate_id, Split.BENCHMARK, config)
            champion = measure(turn, turn.registry.champion(turn.line), Split.BENCHMARK, config)
        try:
            with stages("promote"):
                return decide(turn, candidate, champion, config.gate), candidate
        except LostRaceError as lost:
            stages.watcher.say(f"{turn.label}  gated again: {lost}")


def measure(turn: Turn, checkpoint_id: str, split: Split, config: Config) -> Evaluation:
    """Evaluate a checkpoint on a split, or read how it did."""
    ask = prepared(evaluate, f"{turn.label} · evaluate {checkpoint_id[:6]} on {split}", config)
    return ask(turn, checkpoint_id, split, config.policy, config.evaluation, config.problems)


def close(
    turn: Turn, promotion: Promotion, stages: Stages, config: Config, *, started_at: datetime, seconds: float
) -> Round:
    """Write the round's row, and tell of it."""
    write = prepared(close_round, f"{turn.label} · report", config)
    row = write(turn, promotion, stages.seconds, started_at, seconds)
    stages.watcher.tell_round(row, turn)
    return row
