"""Searches a shard of a round's problems with the champion; every attempt is kept, right or wrong."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic

from models.policy.load import sampling_gpus
from models.policy.pool import borrowed_engine
from models.policy.protocol import Completion
from models.policy.settings import PolicySettings
from models.reward.behaviours import recognise
from models.reward.guidance import GUIDES, Verified
from models.reward.protocol import Judgement
from models.search.driver import drive
from models.search.protocol import Found, Guide, Strategy, Task
from models.search.settings import SearchSettings, open_strategy
from models.search.tree import Node
from storage.curriculum import problems_by_id
from storage.history import shard_counts
from storage.records import Draw, Problem, Step, Trajectory, make_id, make_seed
from tasks.child import obey_parent
from tasks.devices import held
from tasks.progress import Progress, check_stop, report
from tasks.stage import log, stage, warn
from tasks.turn import Turn
from tasks.wording import minutes


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """A part of a round's problems: `Shard(index=2, first=1000, last=1500)`, the last not included."""

    index: int
    first: int
    last: int


def cut(num_problems: int, size: int) -> list[Shard]:
    """All shards of a round."""
    firsts = range(0, num_problems, size)
    return [Shard(index=i, first=first, last=min(first + size, num_problems)) for i, first in enumerate(firsts)]


@stage("search")
def search(turn: Turn, shard: Shard, checkpoint_id: str, policy: PolicySettings, settings: SearchSettings) -> Progress:
    """Publish the shard's trajectories, unless they are there; gives what they came to."""
    obey_parent()
    if is_searched(turn, shard):
        return recall(turn, shard)
    key = part_of(turn, shard)
    check_stop()
    started = monotonic()
    draws: list[Draw] = turn.lake.read("draws", turn.part)[shard.first : shard.last]
    problems = problems_by_id(turn.warehouse, [draw.problem_id for draw in draws])
    searcher = Searcher(
        turn=turn,
        shard=shard,
        checkpoint_id=checkpoint_id,
        strategy=open_strategy(settings),
        guide_name=settings.guide,
        guide=None if settings.guide == "verifier" else GUIDES[settings.guide](),
        longest=policy.max_new_tokens,
    )
    with (
        held(turn.home, sampling_gpus(policy), warn),
        borrowed_engine(turn.registry.open(checkpoint_id), policy, warn) as engine,
    ):
        searches = (
            (problem, strategy_of(draw, problem, settings).search(searcher.task(problem, policy)))
            for draw, problem in zip(draws, problems, strict=True)
        )
        for finished in drive(searches, engine, searcher.guide or searcher.verified):
            searcher.record(finished, settings)
            report(searcher.progress())
    if searcher.steps and not is_searched(turn, shard):
        turn.lake.republish("steps", key, searcher.steps)  # a search that ended here may have been another policy's
    turn.lake.publish("trajectories", key, searcher.trajectories)  # last, for they say that the shard is done
    log(f"{searcher.describe()} in {minutes(monotonic() - started)}")
    return searcher.progress()


def part_of(turn: Turn, shard: Shard) -> str:
    """Names what is published of a shard."""
    return f"{turn.part}-s{shard.index:04d}"


def is_searched(turn: Turn, shard: Shard) -> bool:
    """Whether the lake has all of a shard."""
    return turn.lake.has("trajectories", part_of(turn, shard))


def show_rewards(judgement: Judgement) -> str:
    """What an answer earned, as records carry it."""
    return json.dumps({"outcome": float(judgement.solved)})


def strategy_of(draw: Draw, problem: Problem, settings: SearchSettings) -> Strategy:
    """The strategy that is configured, with the problem's own budget where it has one."""
    return open_strategy(settings.with_budget(draw.budget) if draw.budget else settings, problem.verifier)


def recall(turn: Turn, shard: Shard) -> Progress:
    """What a shard that is published came to."""
    counts = shard_counts(turn.warehouse, run_id=turn.run_id, round=turn.round, shard=shard.index)
    return Progress(
        stage="search",
        part=shard.index,
        done=counts["done"],
        total=shard.last - shard.first,
        tried=counts["done"],
        solved=counts["solved"],
    )


@dataclass(kw_only=True)
class Searcher:
    """Makes records of what a shard's searches found, and tells how far they are."""

    turn: Turn
    shard: Shard
    checkpoint_id: str
    strategy: Strategy
    guide_name: str
    guide: Guide[Problem] | None
    """What guides the search, where it is not the verifier."""
    longest: int
    """Tokens that an answer may have."""
    occasion: str = ""
    """Tells this search of a problem from others of it in the round, where there are several."""
    verified: Verified = field(default_factory=Verified)
    done: int = 0
    solved: int = 0
    """Problems with a right attempt."""
    attempts: int = 0
    tokens: int = 0
    trajectories: list[Trajectory] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def task(self, problem: Problem, policy: PolicySettings) -> Task:
        """What to search, its noise keyed by run, round and problem."""
        return Task(
            prompt=problem.prompt,
            seed=make_seed("search", self.turn.seed, *self.place(problem)),
            max_new_tokens=policy.max_new_tokens,
        )

    def place(self, problem: Problem) -> tuple[object, ...]:
        """Names a search of this searcher's among all."""
        return (self.turn.run_id, self.turn.round, problem.problem_id, *([self.occasion] if self.occasion else []))

    def record(self, finished: Sequence[tuple[Problem, Found]], settings: SearchSettings) -> None:
        """Keep the trajectories and trees of finished searches."""
        attempts = [(problem, completion) for problem, found in finished for completion in found.attempts]
        judged = iter(self.verified.judge(attempts))
        for problem, found in finished:
            judgements = list(islice(judged, len(found.attempts)))
            for sample, (completion, judgement) in enumerate(zip(found.attempts, judgements, strict=True)):
                self.trajectories.append(self.trajectory(problem, completion, sample, judgement, settings.temperature))
            self.steps += self.tree(problem, found, judgements)
            self.tokens += found.num_tokens
            self.solved += any(judgement.solved for judgement in judgements)
        self.done += len(finished)
        self.attempts += len(attempts)

    def trajectory(
        self, problem: Problem, completion: Completion, sample: int, judgement: Judgement, temperature: float
    ) -> Trajectory:
        """One attempt as a row."""
        turn, strategy = self.turn, self.strategy.label
        return Trajectory(
            trajectory_id=make_id("trajectory", *self.place(problem), strategy, sample),
            run_id=turn.run_id,
            line=turn.line,
            round=turn.round,
            shard=self.shard.index,
            problem_id=problem.problem_id,
            checkpoint_id=self.checkpoint_id,
            strategy=strategy,
            sample=sample,
            seed=completion.seed,
            temperature=temperature,
            text=completion.text,
            text_digest=make_id("text", "".join(completion.text.split())),
            token_ids=completion.token_ids,
            logprobs=completion.logprobs,
            prompt_tokens=completion.prompt_tokens,
            num_tokens=len(completion.token_ids),
            stop_reason=completion.stop_reason,
            answer=judgement.answer,
            solved=judgement.solved,
            reason=judgement.reason,
            reward=float(judgement.solved),
            rewards=show_rewards(judgement),
            behaviours=recognise(completion.text),
        )

    def tree(self, problem: Problem, found: Found, judgements: Sequence[Judgement]) -> list[Step]:
        """A search's tree as rows, parents first."""
        if found.root is None:
            return []
        turn, strategy = self.turn, self.strategy.label
        place = (*self.place(problem), strategy)
        ids = {node: make_id("step", *place, number) for number, node in enumerate(found.root.walk())}
        through: dict[Node, int] = {}
        ends, right = Counter[Node](), Counter[Node]()
        answers = zip(found.leaves, found.attempts, judgements, strict=True)
        for sample, (leaf, attempt, judgement) in enumerate(answers):
            is_the_policys = attempt.stop_reason == "end" or len(attempt.token_ids) >= self.longest
            for node in (found.root, *leaf.path()):
                through.setdefault(node, sample)
                ends[node] += is_the_policys  # where the budget ended it, it might have come to anything
                right[node] += judgement.solved
        rewards = dict(zip(found.leaves, map(show_rewards, judgements), strict=True))
        return [
            Step(
                step_id=step_id,
                parent_id=ids[node.parent] if node.parent else "",
                trajectory_id=make_id("trajectory", *place, through[node]) if node in through else "",
                run_id=turn.run_id,
                line=turn.line,
                round=turn.round,
                problem_id=problem.problem_id,
                checkpoint_id=self.checkpoint_id,
                strategy=strategy,
                depth=len(node.path()),
                text=node.text,
                stop_reason=node.stop_reason,
                num_tokens=node.num_tokens,
                length=len(node.token_ids),
                draws=node.draws,
                visits=node.visits,
                value=node.value,
                guide=self.guide_name,
                rewards=rewards.get(node, "{}"),
                num_ends=ends[node],
                num_right=right[node],
                prior=node.prior,
                is_kept=through.get(node) == 0,
            )
            for node, step_id in ids.items()
        ]

    def describe(self) -> str:
        """In words: `shard 2: 412 of 500 problems solved, 4,000 attempts, 91,234 tokens`."""
        return (
            f"shard {self.shard.index + 1}: {self.solved:,} of {self.done:,} problems solved, "
            f"{self.attempts:,} attempts, {self.tokens:,} tokens"
        )

    def progress(self) -> Progress:
        """How far the shard is."""
        return Progress(
            stage="search",
            part=self.shard.index,
            done=self.done,
            total=self.shard.last - self.shard.first,
            tried=self.done,
            solved=self.solved,
            tokens=self.tokens,
        )
