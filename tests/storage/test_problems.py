"""Every kind of problems opens by its settings and keeps the promises of a source."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

import storage
from storage.countdown import CountdownProblems
from storage.problems import KINDS, ProblemSettings, open_source
from storage.records import Split
from storage.sources.file import FileProblems
from storage.sources.gym import GymProblems
from storage.sources.source import Splits

SPLITS = Splits(benchmark=20, final=10, development=5)

PRINT_IDS = """
import json, sys
from itertools import islice
from pathlib import Path
from storage.problems import open_source
from storage.countdown import CountdownProblems
from storage.sources.file import FileProblems
from storage.sources.source import Splits
for settings in (CountdownProblems(), FileProblems(path=Path(sys.argv[1]))):
    source = open_source(settings, Splits(benchmark=20, final=10, development=5))
    drawn = [*sum(source.reserved().values(), []), *islice(source.train(), 30)]
    print(json.dumps([problem.problem_id for problem in drawn]))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rows = [{"question": f"What is {n} + {n}?", "answer": f"#### {2 * n}"} for n in range(100)]
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def settings(request: pytest.FixtureRequest, path: Path) -> ProblemSettings:
    made: dict[str, ProblemSettings] = {
        "countdown": CountdownProblems(),
        "reasoning_gym": GymProblems(dataset="gcd"),
        "file": FileProblems(path=path),
    }
    return made[request.param]


def test_the_table_and_the_settings_agree_on_the_names_of_kinds() -> None:
    assert {kind: entry.settings.__dataclass_fields__["kind"].default for kind, entry in KINDS.items()} == {
        kind: kind for kind in KINDS
    }


@pytest.mark.parametrize("settings", ["countdown", "reasoning_gym", "file"], indirect=True)
def test_splits_share_no_problem_and_hold_what_was_asked_for(settings: ProblemSettings) -> None:
    source = open_source(settings, SPLITS)
    reserved = source.reserved()
    drawn = [problem for problems in reserved.values() for problem in problems] + list(islice(source.train(), 50))
    assert {split: len(problems) for split, problems in reserved.items()} == {
        Split.BENCHMARK: 20,
        Split.FINAL: 10,
        Split.DEVELOPMENT: 5,
    }
    assert len({problem.problem_id for problem in drawn}) == 85
    assert {problem.source for problem in drawn} == {source.name}


@pytest.mark.parametrize("settings", ["countdown", "file"], indirect=True)
def test_no_setting_of_training_moves_benchmark_or_final(settings: ProblemSettings) -> None:
    def held_out(settings: ProblemSettings, splits: Splits) -> list[str]:
        reserved = open_source(settings, splits).reserved()
        return [problem.problem_id for split in (Split.BENCHMARK, Split.FINAL) for problem in reserved[split]]

    reworded = replace(settings, prompt="Solve {question}.")
    assert held_out(settings, SPLITS) == held_out(reworded, replace(SPLITS, development=60))


def test_problems_are_the_same_in_a_fresh_process(path: Path) -> None:
    def print_ids(hash_seed: str) -> str:
        root = str(Path(storage.__file__).parents[1])
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": root}
        command = [sys.executable, "-c", PRINT_IDS, str(path)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    ids = print_ids("1")
    assert len(ids.splitlines()) == 2
    assert ids == print_ids("2")


def test_opening_a_source_reads_no_file_and_starts_no_library() -> None:
    for settings in (FileProblems(path=Path("missing.jsonl")), GymProblems(dataset="no such dataset")):
        assert open_source(settings, SPLITS).name in ("file:missing.jsonl", "reasoning_gym:no such dataset")


def test_the_library_is_not_imported_with_the_table() -> None:
    command = [sys.executable, "-c", "import sys, storage.problems; print('reasoning_gym' in sys.modules)"]
    environment = os.environ | {"PYTHONPATH": str(Path(storage.__file__).parents[1])}
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "False\n"
