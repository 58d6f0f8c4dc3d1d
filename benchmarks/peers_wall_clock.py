"""Who makes the best policy in the same time? This flywheel, TRL's GRPOTrainer, and one-shot filtering with SFTTrainer.

All begin with one initial policy, made here, and have `--seconds` of the whole machine each, one after
another, from the start of their process to its end; imports, servers and gates are in it. Countdown of 3 and
of 4 numbers, judged by greedy answers to 1,000 problems that nobody trains on. The flywheel's
policy is its champion of then. `--tune` chooses the settings of the peers among the contestants on
other problems. `--contestants flywheel flywheel_dpo flywheel_grpo`
compares objectives of ours. All takes two hours and a half; with `--kept FOLDER` it may be broken
off, and goes on with the same words.

`over_grpo` is our accuracy over GRPOTrainer's, `points_over_best_peer_low` the lower end of the 95 %
interval (bootstrap over problems and seeds) of ours less the best peer's, `time_to_peer_ratio`
when we first reached the best peer's accuracy at its end over when it first did; of 3 and 4 numbers
the worse. Needs the packages of the extra `peers`.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # where precisions would differ

from benchmarks.policies import make_policy
from benchmarks.result import conclude
from models.evaluation.metrics import wilson_interval
from models.learning.settings import InitializationSettings
from models.policy.load import load_policy, save_policy
from models.policy.transformers_engine import TransformersEngine
from models.reward.outcome import judge_completions
from models.search.best_of_n import GREEDY
from models.search.driver import drive
from models.search.protocol import Task
from storage.countdown import CountdownProblems
from storage.files import replace
from storage.history import last_run
from storage.home import Home
from storage.problems import open_source
from storage.records import Problem, Split
from storage.registry import Registry
from storage.sources.source import Splits
from storage.warehouse import Warehouse

ROOT = Path(__file__).resolve().parents[1]
MAX_NEW_TOKENS = 96
GRACE_S = 120
"""For a process to end that was asked to."""
JUDGED, OTHER_PROBLEMS = 0, 1
"""Seeds of the problems that are judged, and of those that settings are chosen on, less those that both have."""
SCRATCH_DEFAULTS = (
    "run.workers=2",
    "policy.threads=1",
    "learning.learning_rate=2e-3",
    "learning.batch_tokens=512",
    "learning.max_grad_norm=0.5",
    "learning.epochs=3.0",
)
"""What the flywheel does with the small policy that it makes itself, now that it is given one."""

ROUNDS: dict[str, Any] = {"gate.alpha": 0.2, "evaluation.pass_problems": 0}
PROBLEMS = {3: 5500, 4: 3300}
"""Of a round of ours, by the game's numbers: three rounds end in time, of 3 numbers better than four shorter."""
CHOSEN: dict[str, dict[str, Any]] = {
    "flywheel": ROUNDS,
    "flywheel_dpo": ROUNDS | {"learning.objective": "dpo", "learning.warm_up_rounds": 2},
    "flywheel_grpo": ROUNDS | {"learning.objective": "grpo", "learning.warm_up_rounds": 2},
    "grpo": {"learning_rate": 3e-4, "generations": 8, "problems": 64},
    "sft": {"share": 0.3, "learning_rate": 2e-3, "rows": 32, "samples": 8, "kept": 4},
}
GRID: dict[str, list[dict[str, Any]]] = {
    "grpo": [
        CHOSEN["grpo"] | {"learning_rate": rate, "generations": generations, "problems": 512 // generations}
        for rate, generations in ((1e-4, 8), (3e-4, 8), (1e-3, 8), (3e-4, 4), (3e-4, 16))
    ],
    "sft": [
        CHOSEN["sft"] | {"share": share, "learning_rate": rate}
        for share, rate in ((0.3, 2e-3), (0.5, 2e-3), (0.7, 2e-3), (0.5, 1e-3), (0.5, 4e-3))
    ],
}
PEERS = ("grpo", "sft")
GOALS = {"over_grpo": 2.0, "points_over_best_peer_low": 0.0, "time_to_peer_ratio": 0.6}


class Point(NamedTuple):
    """A policy on the way."""

    second: float
    solved: list[bool]
    """Of the held-out problems, in order."""

    @property
    def accuracy(self) -> float:
        return fmean(self.solved)


Curve = list[Point]


@dataclass(frozen=True, kw_only=True)
class Course:
    """A game, its initial policy, and how long everybody has."""

    numbers: int
    problems_seed: int
    policy: Path
    folder: Path
    seconds: float

    def digest(self) -> str:
        """Of the initial policy's weights."""
        return hashlib.sha256((self.policy / "model.safetensors").read_bytes()).hexdigest()

    def held_out(self) -> list[Problem]:
        """What everybody is judged by."""
        games = [CountdownProblems(numbers=self.numbers, seed=seed) for seed in (self.problems_seed, JUDGED)]
        own, judged = (open_source(game, Splits()).reserved()[Split.FINAL] for game in games)
        known = {problem.problem_id for problem in judged} if self.problems_seed != JUDGED else set()
        return [problem for problem in own if problem.problem_id not in known]


def chosen(who: str, numbers: int) -> dict[str, Any]:
    """The settings of a contestant in a game."""
    return CHOSEN[who] | ({} if who in PEERS else {"curriculum.problems": PROBLEMS[numbers]})


def run(course: Course, who: str, settings: Mapping[str, Any], seed: int) -> Curve:
    """Let one contestant have its time, then judge what it made; what is kept of an earlier time counts."""
    choices = (course.seconds, course.digest(), SCRATCH_DEFAULTS, sorted(settings.items()))
    chosen = hashlib.sha256(repr(choices).encode()).hexdigest()[:8]
    folder = course.folder / f"{course.numbers}-{course.problems_seed}-{who}-{seed}-{chosen}"
    kept = folder / "curve.json"
    held_out = course.held_out()
    if kept.exists():
        curve = [Point(*point) for point in json.loads(kept.read_text())]
    else:
        shutil.rmtree(folder, ignore_errors=True)  # of one that was broken off
        folder.mkdir(parents=True)
        make = learn_from_peer if who in PEERS else turn_wheel
        policies = make(course, who, settings, seed, folder)
        curve = [Point(second, judge(policy, held_out)) for second, policy in policies]
        replace(kept, json.dumps(curve).encode())
    told = "  ".join(f"{point.second:.0f} s {point.accuracy:.3f}" for point in curve)
    low, high = wilson_interval(sum(curve[-1].solved), len(held_out))
    print(
        f"{course.numbers} numbers, seed {seed}, {who} {dict(settings) or ''}: {told}  ({low:.3f}-{high:.3f})",
        flush=True,
    )
    return curve


def turn_wheel(
    course: Course, who: str, settings: Mapping[str, Any], seed: int, folder: Path
) -> list[tuple[float, Path]]:
    """`flywheel run`, stopped by Ctrl-C; its champions by the second of their promotion."""
    sets = [
        f"policy.model={course.policy}",
        f"problems.numbers={course.numbers}",
        f"problems.seed={course.problems_seed}",
        f"run.seed={seed}",
        *SCRATCH_DEFAULTS,
        *(f"{key}={value}" for key, value in settings.items()),
    ]
    command = [sys.executable, "-c", "from flows.cli import main; main()", "run", "--forever"]
    started = time.time()
    with (folder / "log").open("w") as log:
        wheel = subprocess.Popen(
            [*command, *(f"--set={text}" for text in sets)],
            cwd=folder,
            env=os.environ | {"FLYWHEEL_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
        try:
            wheel.wait(course.seconds)
        except subprocess.TimeoutExpired:
            wheel.send_signal(signal.SIGINT)
            wheel.wait(GRACE_S)
        else:
            raise SystemExit(f"{who} ended before its time:\n{(folder / 'log').read_text()[-3000:]}")
        finally:
            wheel.kill()
    home = Home.open(folder / "home")
    registry = Registry(home)
    last = last_run(Warehouse(home))
    assert last is not None, (folder / "log").read_text()
    return [
        (max(0.0, row.created_at.timestamp() - started), registry.open(row.champion_id))
        for row in registry.promotions(last.line)
        if row.verdict in ("initial", "promoted") and row.created_at.timestamp() - started <= course.seconds
    ]


def learn_from_peer(
    course: Course, who: str, settings: Mapping[str, Any], seed: int, folder: Path
) -> list[tuple[float, Path]]:
    """A worker of peers.py; its policies by second."""
    job = {
        "who": who,
        "policy": str(course.policy),
        "folder": str(folder / "kept"),
        "numbers": course.numbers,
        "problems_seed": course.problems_seed,
        "seed": seed,
        "seconds": course.seconds,
        "max_new_tokens": MAX_NEW_TOKENS,
        "settings": dict(settings),
        "started": time.time(),
    }
    with (folder / "log").open("w") as log:
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / "peers.py"), json.dumps(job)],
            cwd=folder,
            stdout=log,
            stderr=log,
            timeout=course.seconds + GRACE_S,
        )
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{(folder / 'log').read_text()[-3000:]}")
    kept = sorted(path for path in (folder / "kept").iterdir() if path.name.replace(".", "").isdigit())
    return [(0.0, course.policy), *((float(path.name), path) for path in kept)]


def judge(folder: Path, held_out: Sequence[Problem]) -> list[bool]:
    """Greedy answers, solved or not."""
    policy = load_policy(folder)
    engine = TransformersEngine(policy.model, policy.tokenizer, max_rows=512)
    searches = (
        (place, GREEDY.search(Task(prompt=problem.prompt, seed=0, max_new_tokens=MAX_NEW_TOKENS)))
        for place, problem in enumerate(held_out)
    )
    answers = {place: found.attempts[0] for finished in drive(searches, engine) for place, found in finished}
    verdicts = judge_completions([(problem, answers[place]) for place, problem in enumerate(held_out)])
    return [verdict.solved for verdict in verdicts]


def ends(curves: Sequence[Curve]) -> float:
    """Mean accuracy at the end."""
    return fmean(curve[-1].accuracy for curve in curves)


def least_difference(ours: Sequence[Curve], theirs: Sequence[Curve], num_draws: int = 2000) -> float:
    """The lower end of the 95 % interval of our accuracy less theirs, paired by problem and seed."""
    rng = Random(0)
    gains = [
        [int(a) - int(b) for a, b in zip(our[-1].solved, their[-1].solved, strict=True)]
        for our, their in zip(ours, theirs, strict=True)
    ]
    size = len(gains[0])
    draws = []
    for _ in range(num_draws):
        seeds = [rng.randrange(len(gains)) for _ in gains]
        problems = [rng.randrange(size) for _ in range(size)]
        draws.append(fmean(gains[seed][problem] for seed in seeds for problem in problems))
    return sorted(draws)[int(0.025 * num_draws)]


def time_to(curve: Curve, accuracy: float) -> float:
    """The second at which it is first reached; infinite where it never is."""
    return next((point.second for point in curve if point.accuracy >= accuracy), float("inf"))


def compare(curves: Mapping[str, Sequence[Curve]]) -> dict[str, float]:
    """The figures of a game."""
    figures = {f"accuracy_{who}": ends(each) for who, each in curves.items()}
    ours = curves.get("flywheel")
    peers = [who for who in PEERS if who in curves]
    if ours and peers:
        best = curves[max(peers, key=lambda who: ends(curves[who]))]
        figures["points_over_best_peer"] = ends(ours) - ends(best)
        figures["points_over_best_peer_low"] = least_difference(ours, best)
        figures["time_to_peer_ratio"] = fmean(
            time_to(our, their[-1].accuracy) / max(1.0, time_to(their, their[-1].accuracy))
            for our, their in zip(ours, best, strict=True)
        )
        if "grpo" in curves:
            figures["over_grpo"] = ends(ours) / ends(curves["grpo"])
    return figures


def worst(figures: Mapping[str, float], name: str) -> float:
    """Of the games."""
    of_games = [figure for key, figure in figures.items() if key.startswith(f"{name}_of_")]
    return max(of_games) if name == "time_to_peer_ratio" else min(of_games)


def tune(course: Course, contestants: Sequence[str]) -> None:
    """Every choice of the peers among them, on other problems."""
    for who in [peer for peer in PEERS if peer in contestants]:
        ended = [(run(course, who, settings, seed=0)[-1].accuracy, settings) for settings in GRID[who]]
        accuracy, settings = max(ended, key=lambda each: each[0])
        print(f"{who}: {settings} is best, {accuracy:.3f}")


def draw(games: Mapping[int, Mapping[str, Sequence[Curve]]], path: Path) -> None:
    """Accuracy by second, a line a seed."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(games), figsize=(5.5 * len(games), 4), squeeze=False, sharey=True)
    for place, (numbers, curves) in enumerate(games.items()):
        for colour, (who, each) in enumerate(curves.items()):
            for seed, curve in enumerate(each):
                seconds, accuracies = zip(*((point.second, point.accuracy) for point in curve), strict=True)
                label = who if seed == 0 else None
                axes[0][place].step(seconds, accuracies, where="post", color=f"C{colour}", alpha=0.8, label=label)
        axes[0][place].set(xlabel="seconds", title=f"{numbers} numbers", ylim=(0, 1))
    axes[0][0].set_ylabel("held-out problems solved")
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=160)


def main() -> None:
    """Make the initial policies, give everybody their time, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--numbers", type=int, nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--contestants", nargs="+", choices=list(CHOSEN), default=["flywheel", *PEERS])
    parser.add_argument("--tune", action="store_true", help="Choose the peers' settings on other problems, and end.")
    parser.add_argument(
        "--kept",
        type=Path,
        metavar="FOLDER",
        help="Keep what each contestant came to, and go on from what is kept, whatever code made that.",
    )
    parser.add_argument("--picture", type=Path, default=None, metavar="FILE")
    arguments = parser.parse_args()
    seeds = list(range(arguments.seeds))
    figures: dict[str, float] = {}
    games: dict[int, dict[str, list[Curve]]] = {}
    with tempfile.TemporaryDirectory() as passing:
        folder = (arguments.kept or Path(passing)).resolve()
        for numbers in arguments.numbers:
            policy = folder / f"initial-{numbers}"
            if not policy.exists():
                making = folder / "making"
                save_policy(make_policy(InitializationSettings(), CountdownProblems(numbers=numbers)), making)
                making.rename(policy)
            course = Course(
                numbers=numbers,
                problems_seed=OTHER_PROBLEMS if arguments.tune else JUDGED,
                policy=policy,
                folder=folder,
                seconds=arguments.seconds,
            )
            if arguments.tune:
                tune(course, arguments.contestants)
                continue
            curves: dict[str, list[Curve]] = {who: [] for who in arguments.contestants}
            for seed in seeds:
                for who in arguments.contestants:
                    curves[who].append(run(course, who, chosen(who, numbers), seed))
            games[numbers] = curves
            figures |= {f"{name}_of_{numbers}": figure for name, figure in compare(curves).items()}
    if arguments.tune:
        return
    goals = {key: goal for key, goal in GOALS.items() if any(name.startswith(f"{key}_of_") for name in figures)}
    figures |= {key: worst(figures, key) for key in goals}
    if arguments.picture:
        draw(games, arguments.picture)
    conclude("peers_wall_clock", figures, goals, at_most=["time_to_peer_ratio"], seeds=seeds)


if __name__ == "__main__":
    main()
