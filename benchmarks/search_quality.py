"""Does tree search find more than sampling for the same tokens? Solved share of held-out problems by tokens spent.

Countdown with 4 numbers and a policy that is made here by the default recipe on 4-number
walks; a problem is solved when the rules of the game accept an answer, and no gold answer or
value model guides anything. Every generated token counts, those of duplicates, broken steps
and truncated answers too; tokens computed for prompts stand beside. Best-of-N is given the
best of four temperatures on the very problems that it is judged on; the settings of the
others were chosen on development problems, which `--tune` repeats. `mcts_over_best_of_n` is the
geometric mean of the ratio of solved shares over the budgets at which best-of-N solves 40 to
70 %, its interval a bootstrap over problems. What of it is the tree's, and what comes of stopping
an answer at the first step that breaks the game's rules, `checked_best_of_n` tells: best-of-N whose
attempts are charged up to that step alone. `--problems N` and `--seeds N` change the size,
`--picture FILE` draws the curves.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, NamedTuple, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.policies import make_policy
from benchmarks.result import conclude
from models.evaluation.metrics import wilson_interval
from models.learning.settings import InitializationSettings
from models.policy.load import Policy
from models.policy.protocol import Completion, Request
from models.policy.transformers_engine import TransformersEngine
from models.reward.guidance import Rules, keeps_rules
from models.reward.outcome import judge_completions
from models.search.beam import Beam
from models.search.best_of_n import WAVE
from models.search.budget import Budget
from models.search.driver import drive
from models.search.mcts import MCTS
from models.search.protocol import Found, Search, Strategy, Task, complete, value
from storage.countdown import CountdownProblems
from storage.records import Problem, make_seed
from storage.sources.countdown import CountdownMaker

GAME = CountdownProblems(numbers=4)
BUDGETS = tuple(150 * 2**i for i in range(5))
TEMPERATURES = (0.4, 0.6, 0.8, 1.0)
NUM_PROBLEMS, NUM_TUNING = 500, 200
BAND = 0.40, 0.70
GOALS = {"mcts_over_best_of_n": 1.15, "mcts_over_best_of_n_low": 1.05}
MAX_NEW_TOKENS = 96
BOUNDARY = ";"

Make = Callable[[Budget], Strategy]
Name = TypeVar("Name")
Place = tuple[int, int]
"""A problem's place, and a seed."""


def tree(**settings: Any) -> Make:
    """MCTS where it has an exploration, else beams."""
    kind = MCTS if "exploration" in settings else Beam
    return lambda budget: kind(budget=budget, boundary=BOUNDARY, **settings)


CHOSEN: dict[str, Make] = {
    "mcts": tree(temperature=0.6, widening=0.5, exploration=1.25),
    "beam": tree(temperature=0.6, width=4, expansion=2, rollouts=2),
    "dvts": tree(temperature=0.6, width=2, expansion=4, rollouts=2, is_diverse=True),
}
"""By `--tune`, the best where sampling solves about half: the mean at 600 and 1,200 tokens, then at all."""
GRID: dict[str, Make] = {
    **{
        f"mcts, temperature {t}, exploration {c}": tree(temperature=t, widening=0.5, exploration=c)
        for t in (0.4, 0.6, 0.8)
        for c in (0.6, 1.25)
    },
    **{
        f"{name}, temperature {t}, {n}x{k}, {rollouts} rollouts": tree(
            temperature=t, width=n, expansion=k, rollouts=rollouts, is_diverse=name == "dvts"
        )
        for name in ("beam", "dvts")
        for t in (0.6, 1.0)
        for n, k in ((2, 4), (4, 2))
        for rollouts in (1, 2)
    },
}


@dataclass(frozen=True)
class Sampling:
    """Best-of-N at every N: attempts are made until one is right, or the greatest budget is spent."""

    temperature: float
    is_checked: bool = False
    """Whether an attempt would have been stopped at its first step that breaks the game's rules, as trees are."""
    problem: Problem | None = None
    label: str = "best_of_n"

    def search(self, task: Task) -> Search:
        """A few attempts at a time; which they are does not depend on how many."""
        attempts: list[Completion] = []
        worths: list[float] = []
        spent = 0
        while 1.0 not in worths and spent < BUDGETS[-1]:
            requests = [
                Request(
                    prompt=task.prompt,
                    seed=task.seed + number,
                    temperature=self.temperature,
                    max_new_tokens=task.max_new_tokens,
                    boundary=BOUNDARY,
                )
                for number in range(len(attempts), len(attempts) + WAVE)
            ]
            wave = yield from complete(requests)
            worths = yield from value(wave)
            attempts += wave
            spent += sum(self.cost(attempt) for attempt in wave)
        return Found(attempts)

    def cost(self, attempt: Completion) -> int:
        """Tokens that the attempt is charged with."""
        text, num_tokens = "", 0
        for piece in attempt.pieces:
            text, num_tokens = text + piece.text, num_tokens + piece.num_tokens
            if self.is_checked and self.problem is not None and not keeps_rules(self.problem, text):
                break
        return num_tokens


class Curve(NamedTuple):
    """What a strategy solved, by tokens spent."""

    name: str
    solved: list[list[int]]
    """Of each problem and budget, the seeds with which it was solved."""
    num_seeds: int
    computed: float
    """Tokens of prompts and prefixes computed, a generated token."""
    tokens_per_s: float

    def shares(self, chosen: Sequence[int] | None = None) -> list[float]:
        """Solved share at each budget, of these problems."""
        rows = self.solved if chosen is None else [self.solved[index] for index in chosen]
        return [sum(column) / (len(rows) * self.num_seeds) for column in zip(*rows, strict=True)]


def problems(number: int, *, tuning: bool = False) -> list[Problem]:
    """Held-out problems, or development problems; the demonstrations have neither's numbers."""
    rows = list(islice(CountdownMaker(GAME).draws(), NUM_TUNING + number))
    return rows[:NUM_TUNING] if tuning else rows[NUM_TUNING:]


def search(
    policy: Policy,
    strategies: Mapping[Name, Sequence[Strategy]],
    asked: Sequence[Problem],
    seeds: Sequence[int],
    what: str,
) -> tuple[dict[Name, dict[Place, Found]], float, float]:
    """What each strategy, given for each problem, came to, all in one drive; computed a token generated; tokens/s."""
    engine = TransformersEngine(policy.model, policy.tokenizer, max_rows=512)
    guide, started, num_tokens, done = _ByProblem(asked), monotonic(), 0, 0
    found: dict[Name, dict[Place, Found]] = {name: {} for name in strategies}
    searches = (
        ((name, (place, seed)), each[place].search(make_task(problem, seed)))
        for seed in seeds
        for place, problem in enumerate(asked)
        for name, each in strategies.items()
    )
    total = len(asked) * len(seeds) * len(strategies)
    for finished in drive(searches, engine, guide):
        for (name, place), each in finished:
            found[name][place] = each
            num_tokens += each.num_tokens
        done += len(finished)
        rate = num_tokens / (monotonic() - started)
        print(f"\r{what}: {done:,} of {total:,}, {rate:,.0f} tokens/s   ", end="", flush=True)
    print("\r", end="")
    computed = (engine.num_computed_tokens - num_tokens) / max(1, num_tokens)
    return found, computed, num_tokens / (monotonic() - started)


def make_task(problem: Problem, seed: int) -> Task:
    """A problem with noise of its own under each seed."""
    key = make_seed("search quality", seed, problem.problem_id)
    return Task(prompt=problem.prompt, seed=key, max_new_tokens=MAX_NEW_TOKENS)


class _ByProblem:
    """The rules as a guide, by a problem's place."""

    reads_gold = False

    def __init__(self, asked: Sequence[Problem]) -> None:
        self._asked, self._rules = asked, Rules()

    def values(self, asked: Sequence[tuple[tuple[object, Place], object]]) -> list[float]:
        return self._rules.values([(self._asked[place], answer) for (_, (place, _)), answer in asked])  # type: ignore[misc]


def sample(
    policy: Policy, asked: Sequence[Problem], seeds: Sequence[int], temperature: float, *, is_checked: bool = False
) -> Curve:
    """Whether the attempts that each budget pays for hold a right one."""
    name = f"best_of_n{', checked' if is_checked else ''}, temperature {temperature}"
    strategies = [Sampling(temperature, is_checked, problem) for problem in asked]
    found, computed, rate = search(policy, {name: strategies}, asked, seeds, name)
    solved = [
        [sum(first_right(strategy, found[name][place, seed]) <= budget for seed in seeds) for budget in BUDGETS]
        for place, strategy in enumerate(strategies)
    ]
    return Curve(name, solved, len(seeds), computed, rate)


def first_right(strategy: Sampling, found: Found) -> float:
    """Tokens of the attempts up to the first right one."""
    spent = 0
    assert strategy.problem is not None
    judgements = judge_completions([(strategy.problem, attempt) for attempt in found.attempts])
    for attempt, judgement in zip(found.attempts, judgements, strict=True):
        spent += strategy.cost(attempt)
        if judgement.solved:
            return spent
    return math.inf


def grow(
    policy: Policy, asked: Sequence[Problem], seeds: Sequence[int], made: Mapping[str, Make], what: str
) -> list[Curve]:
    """Tree strategies. MCTS spends its tokens in the same order whatever its budget; beams are run at each."""
    strategies = {
        (name, budget): [make(Budget(tokens=budget))] * len(asked)
        for name, make in made.items()
        for budget in (BUDGETS[-1:] if name.startswith("mcts") else BUDGETS)
    }
    found, computed, rate = search(policy, strategies, asked, seeds, what)

    def solved(name: str, place: int, budget: int) -> int:
        runs = found.get((name, budget)) or found[name, BUDGETS[-1]]
        tries = [runs[place, seed] for seed in seeds]
        return sum(each.leaves[0].value == 1.0 and each.num_tokens <= budget for each in tries)

    return [
        Curve(
            name,
            [[solved(name, place, budget) for budget in BUDGETS] for place in range(len(asked))],
            len(seeds),
            computed,
            rate,
        )
        for name in made
    ]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Geometric mean of ours over theirs where theirs, drawn over the logarithm of tokens, is in the band.

    On 33 budgets between the first and the last, by linear interpolation of both; nan where theirs never is.
    """
    logs = []
    for index in range(33):
        place = index / 32 * (len(BUDGETS) - 1)
        left = min(int(place), len(BUDGETS) - 2)
        weight = place - left
        a, b = (curve[left] * (1 - weight) + curve[left + 1] * weight for curve in (ours, theirs))
        if BAND[0] <= b <= BAND[1] and a > 0:
            logs.append(math.log(a / b))
    return math.exp(sum(logs) / len(logs)) if len(logs) > 1 else math.nan


def interval(ours: Curve, theirs: Curve, num_draws: int = 400) -> tuple[float, float]:
    """95 % of the ratio, bootstrapped over problems, each with all its seeds in both; nan where it cannot be told."""
    rng = Random(0)
    size = len(ours.solved)
    draws = []
    for _ in range(num_draws):
        chosen = [rng.randrange(size) for _ in range(size)]
        drawn = ratio(ours.shares(chosen), theirs.shares(chosen))
        if not math.isnan(drawn):
            draws.append(drawn)
    if len(draws) < num_draws:
        print(f"{num_draws - len(draws)} of {num_draws} draws of problems have best-of-N outside of the band")
    if not draws:
        return math.nan, math.nan
    draws.sort()
    return draws[int(0.025 * len(draws))], draws[int(0.975 * len(draws))]


def over(ours: Curve, theirs: Curve) -> dict[str, float]:
    """The ratio of two curves and its interval, as figures."""
    name, (low, high) = f"{ours.name}_over_{theirs.name}", interval(ours, theirs)
    return {name: ratio(ours.shares(), theirs.shares()), f"{name}_low": low, f"{name}_high": high}


def show(curve: Curve) -> None:
    """A row: solved share and interval at each budget."""
    tries = len(curve.solved) * curve.num_seeds
    cells = []
    for share in curve.shares():
        low, high = wilson_interval(round(share * len(curve.solved)), len(curve.solved))
        cells.append(f"{share:.3f} ({low:.3f}-{high:.3f})")
    print(
        f"{curve.name:28} {'  '.join(cells)}  {curve.computed:5.1f}  {tries:,} searches, "
        f"{curve.tokens_per_s:,.0f} tokens/s"
    )


def draw(curves: Sequence[Curve], path: Path) -> None:
    """The curves as a picture."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.4))
    for curve in curves:
        axes.plot(BUDGETS, curve.shares(), marker="o", label=curve.name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(BUDGETS, [f"{budget:,}" for budget in BUDGETS])
    axes.set(xlabel="tokens generated a problem", ylabel="problems solved", ylim=(0, 1))
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=160)


def tune(policy: Policy) -> None:
    """The mean solved share of every choice on development problems."""
    asked = problems(0, tuning=True)
    for curve in grow(policy, asked, [100], GRID, "all choices"):
        shares = curve.shares()
        means = f"mean {sum(shares) / len(shares):.4f}, in the middle {sum(shares[2:4]) / 2:.4f}"
        print(f"{curve.name:44} {'  '.join(f'{share:.3f}' for share in shares)}  {means}")


def compare(policy: Policy, asked: Sequence[Problem], seeds: Sequence[int]) -> Iterator[Curve]:
    """Best-of-N at its best temperature, then each tree strategy."""
    sampled = [sample(policy, asked, seeds, temperature) for temperature in TEMPERATURES]
    for curve in sampled:
        show(curve)
    best = max(range(len(sampled)), key=lambda index: sum(sampled[index].shares()))
    yield sampled[best]._replace(name="best_of_n")
    checked = sample(policy, asked, seeds, TEMPERATURES[best], is_checked=True)
    show(checked)
    yield checked._replace(name="checked_best_of_n")
    for name, make in CHOSEN.items():
        (curve,) = grow(policy, asked, seeds, {name: make}, name)
        show(curve)
        yield curve


def main() -> None:
    """Make the policy, search, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=NUM_PROBLEMS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tune", action="store_true", help="Choose settings on development problems, and end.")
    parser.add_argument("--picture", type=Path, default=None, metavar="FILE")
    arguments = parser.parse_args()
    policy = make_policy(InitializationSettings(), GAME)
    if arguments.tune:
        tune(policy)
        return
    seeds = list(range(arguments.seeds))
    asked = problems(arguments.problems)
    print(f"{len(asked)} problems, seeds {seeds}; tokens a problem: {', '.join(map(str, BUDGETS))}; then computed")
    best, checked, *grown = compare(policy, asked, seeds)
    figures: dict[str, float] = {}
    for curve in (checked, *grown):
        figures |= over(curve, best)
    for curve in grown:
        figures |= over(curve, checked)
    if arguments.picture:
        draw([best, checked, *grown], arguments.picture)
    conclude("search_quality", figures, GOALS, seeds=seeds)


if __name__ == "__main__":
    main()
