"""What search costs beside the engine: tokens/s inside each tree strategy over the raw engine's.

A strategy is driven over many problems while every wave of the engine is recorded; then the
bare engine is given the same waves again, the same prefixes, lengths and batch sizes, and
nothing else is done. `tree_over_raw` is the least of the strategies' ratios, each a median.
`batched_over_single` is a beam of width 4 over all problems at once against the same beam one
problem at a time, its own requests batched, on the same engine; `engine_limit` is what the bare
engine gains from batches of the one size over batches of the other, which no driver can exceed.
`differing_trees` is the share of MCTS trees that are not the same, node by node and visit by visit,
when their problems are searched in shards of 37 and waves of 64 instead of all at once.
`computed_over_generated` is of MCTS: tokens computed, prompts and all, for each that is generated.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.policies import make_policy
from benchmarks.recorder import Recorder, replay
from benchmarks.result import conclude
from benchmarks.search_quality import BOUNDARY, CHOSEN, GAME, make_task, problems
from models.learning.settings import InitializationSettings
from models.policy.load import Policy
from models.policy.transformers_engine import TransformersEngine
from models.reward.guidance import Rules
from models.search.beam import Beam
from models.search.budget import Budget
from models.search.driver import drive
from models.search.protocol import Found, Strategy
from models.search.tree import Node
from storage.records import Problem

GOALS = {"tree_over_raw": 0.90, "batched_over_single": 10.0, "differing_trees": 0.01}
BUDGET = Budget(tokens=600)
DEMONSTRATIONS = 10_000
NUM_SINGLE = 12
SHARD = 37


def open_engine(policy: Policy) -> TransformersEngine:
    """As rounds use it."""
    return TransformersEngine(policy.model, policy.tokenizer, max_rows=512)


def search(engine: Recorder | TransformersEngine, strategy: Strategy, asked: Sequence[Problem]) -> float:
    """Seconds that it takes."""
    started = perf_counter()
    for _ in drive(((problem, strategy.search(make_task(problem, 0))) for problem in asked), engine, Rules()):
        pass
    return perf_counter() - started


def tree_over_raw(policy: Policy, name: str, asked: Sequence[Problem], repeats: int) -> float:
    """The raw engine's seconds over the search's, for the same tokens."""
    ratios = []
    recorder = Recorder(open_engine(policy))
    search(recorder, CHOSEN[name](BUDGET), asked)  # what is replayed, and warm
    for _ in range(repeats):
        raw_s, num_tokens = replay(open_engine(policy), recorder.waves)
        recorder = Recorder(open_engine(policy))
        searched_s = search(recorder, CHOSEN[name](BUDGET), asked)
        raw_again_s, _ = replay(open_engine(policy), recorder.waves)
        assert num_tokens == recorder.num_tokens, (num_tokens, recorder.num_tokens)
        raw_s = (raw_s + raw_again_s) / 2  # on both sides, against a machine that changes its speed
        ratios.append(raw_s / searched_s)
        rows = sum(map(len, recorder.waves)) / len(recorder.waves)
        print(
            f"{name:5} {num_tokens / searched_s:8,.0f} tokens/s, raw engine {num_tokens / raw_s:8,.0f}, "
            f"{rows:.0f} rows a wave: {ratios[-1]:.3f}"
        )
    return median(ratios)


def batched_over_single(policy: Policy, asked: Sequence[Problem]) -> dict[str, float]:
    """Tokens/s of one drive over all, over tokens/s of a drive a problem; and the same of the bare engine."""
    strategy = Beam(budget=BUDGET, boundary=BOUNDARY, width=4, expansion=4)
    together, alone = Recorder(open_engine(policy)), Recorder(open_engine(policy))
    together_s = search(together, strategy, asked)
    alone_s = sum(search(alone, strategy, [problem]) for problem in asked[:NUM_SINGLE])
    rates = together.num_tokens / together_s, alone.num_tokens / alone_s
    print(f"beam  {rates[0]:8,.0f} tokens/s over {len(asked)} problems, {rates[1]:,.0f} one problem at a time")
    bare = [num_tokens / s for s, num_tokens in (replay(open_engine(policy), each.waves) for each in (together, alone))]
    print(f"raw   {bare[0]:8,.0f} tokens/s in the waves of all, {bare[1]:,.0f} in those of one")
    return {"batched_over_single": rates[0] / rates[1], "engine_limit": bare[0] / bare[1]}


def computed_over_generated(policy: Policy, asked: Sequence[Problem]) -> float:
    """Tokens that the engine computed for each that MCTS generated: near 1 where each prefix is paid for once."""
    recorder = Recorder(open_engine(policy))
    search(recorder, CHOSEN["mcts"](BUDGET), asked)
    return recorder.engine.num_computed_tokens / recorder.num_tokens


def differing_trees(policy: Policy, asked: Sequence[Problem]) -> float:
    """Share of trees that shards and smaller waves change: rounding differs with a batch's shape."""
    together = grow(open_engine(policy), asked)
    small = TransformersEngine(policy.model, policy.tokenizer, max_rows=64)
    shards = [asked[first : first + SHARD] for first in range(0, len(asked), SHARD)]
    apart = [tree for shard in shards for tree in grow(small, shard)]
    num_differing = sum(one != other for one, other in zip(together, apart, strict=True))
    print(f"mcts  {num_differing} of {len(asked)} trees differ between one batch and shards")
    return num_differing / len(asked)


def grow(engine: TransformersEngine, asked: Sequence[Problem]) -> list[list[tuple[tuple[int, ...], int]]]:
    """Each problem's MCTS tree: its nodes' tokens and visits, parents first."""
    strategy, found = CHOSEN["mcts"](BUDGET), dict[str, Found]()
    searches = ((problem, strategy.search(make_task(problem, 0))) for problem in asked)
    for finished in drive(searches, engine, Rules()):
        found |= {problem.problem_id: each for problem, each in finished}
    roots = [found[problem.problem_id].root or Node() for problem in asked]
    return [[(node.prefix, node.visits) for node in root.walk()] for root in roots]


def main() -> None:
    """Measure each strategy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    policy = make_policy(InitializationSettings(demonstrations=DEMONSTRATIONS), GAME)
    asked = problems(arguments.problems)
    search(open_engine(policy), CHOSEN["beam"](BUDGET), asked[:50])  # warm
    figures = {f"{name}_over_raw": tree_over_raw(policy, name, asked, arguments.repeats) for name in CHOSEN}
    figures["tree_over_raw"] = min(figures.values())
    figures |= batched_over_single(policy, asked)
    figures["computed_over_generated"] = computed_over_generated(policy, asked)
    figures["differing_trees"] = differing_trees(policy, asked)
    conclude("search_throughput", figures, GOALS, at_most=["differing_trees"], seeds=[0])


if __name__ == "__main__":
    main()
