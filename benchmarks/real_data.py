"""GSM8K and MATH-500 through the whole of it: loaded, verified, and round a wheel with a small policy made on the spot.

`FLYWHEEL_DATA` names the folder with gsm8k_train.jsonl, gsm8k_test.jsonl and math500_test.json, columns question and
answer. `gold_right_…` is the share of their own solutions (MATH-500's in a box) that the verifier calls right, and
`gold_wrong_…` of those of the next problem, which may have the same answer. The wheel's policy is made of
`--demonstrations` solutions of GSM8K's train file, searches the others of that file for a round, and is judged on the
test file. It is far too small for such problems, of which search solves a few in a hundred and a greedy answer next to
none: that a gate decided on it is what is to be seen (`went_round` is 1 then). Takes about seven minutes on two cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.result import conclude
from models.reward.verifier import judge
from storage.history import last_run
from storage.home import Home
from storage.problems import open_source
from storage.records import Problem
from storage.registry import Registry
from storage.sources.file import FileProblems
from storage.sources.rows import read_rows
from storage.sources.source import Splits
from storage.warehouse import Warehouse

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    "gsm8k": ("gsm8k_test.jsonl", "{}"),
    "math500": ("math500_test.json", r"Therefore it is \boxed{{{}}}."),
}
"""A file, and what a policy would write of its answers."""
GOALS = {"gold_right_gsm8k": 0.999, "gold_right_math500": 0.97, "went_round": 1.0}


def load(path: Path, wording: str) -> list[tuple[Problem, str]]:
    """Each problem with its solution."""
    problems = list(open_source(FileProblems(path=path), Splits(benchmark=0, final=0, development=0)).train())
    solutions = {row.columns["question"]: wording.format(row.columns["answer"]) for row in read_rows(path)}
    return [(problem, solutions[problem.question]) for problem in problems]


def verify(name: str, loaded: Sequence[tuple[Problem, str]]) -> dict[str, float]:
    """How the verifier likes right solutions, and those of other problems."""
    shifted = [(problem, solution) for (problem, _), (_, solution) in zip(loaded, loaded[1:] + loaded[:1], strict=True)]
    right, wrong = judge(loaded), judge(shifted)
    share = {"right": sum(each.solved for each in right), "wrong": sum(each.solved for each in wrong)}
    print(
        f"{name}: {len(loaded):,} problems, {share['right']:,} solutions right, {share['wrong']:,} of others",
        flush=True,
    )
    for (problem, solution), judgement in zip(loaded, right, strict=True):
        if not judgement.solved:
            print(
                f"  not right: gold {problem.answer!r}, {judgement.reason} {judgement.answer!r} of …{solution[-60:]!r}"
            )
    return {f"gold_{key}_{name}": number / len(loaded) for key, number in share.items()}


def turn(data: Path, folder: Path, demonstrations: int) -> dict[str, float]:
    """A round on GSM8K."""
    rows = [json.loads(line) for line in (data / "gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines()]
    shown = [{"prompt": row["question"], "completion": row["answer"]} for row in rows[:demonstrations]]
    write(folder / "demonstrations.jsonl", shown)
    write(folder / "train.jsonl", rows[demonstrations:])
    sets = {
        "problems.kind": "file",
        "problems.path": "train.jsonl",
        "problems.benchmark_path": data / "gsm8k_test.jsonl",
        "splits.benchmark": 250,
        "splits.final": 250,
        "splits.development": 50,
        "initialization.file": "demonstrations.jsonl",
        "initialization.batch_tokens": 4096,
        "initialization.epochs": 2,
        "scratch.context": 2048,
        "policy.max_new_tokens": 640,
        "curriculum.problems": 200,
        "search.samples": 4,
        "evaluation.pass_problems": 25,
        "run.rounds": 1,
    }
    home = folder / "home"
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "run"]
        + [f"--set={key}={value}" for key, value in sets.items()],
        cwd=folder,
        env=os.environ | {"FLYWHEEL_HOME": str(home), "PYTHONPATH": str(ROOT)},
    )
    last = last_run(Warehouse(Home.open(home))) if home.is_dir() else None
    decided = Registry(Home.open(home)).promotions(last.line) if last else []
    return {"went_round": float(not done.returncode and any(row.round == 1 for row in decided))}


def write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Load, verify, turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demonstrations", type=int, default=5000)
    parser.add_argument("--without-wheel", action="store_true", help="Load and verify alone.")
    arguments = parser.parse_args()
    data = Path(os.environ.get("FLYWHEEL_DATA", ""))
    missing = [
        name for name in ("gsm8k_train.jsonl", *(file for file, *_ in FILES.values())) if not (data / name).is_file()
    ]
    if missing:
        raise SystemExit(f"FLYWHEEL_DATA is {str(data)!r}, where there is no {', '.join(missing)}: name their folder")
    figures: dict[str, float] = {}
    for name, (file, wording) in FILES.items():
        figures |= verify(name, load(data / file, wording))
    if not arguments.without_wheel:
        with tempfile.TemporaryDirectory() as folder:
            figures |= turn(data.absolute(), Path(folder), arguments.demonstrations)
    goals = {name: goal for name, goal in GOALS.items() if name in figures}
    conclude("real_data", figures, goals, seeds=[0])


if __name__ == "__main__":
    main()
