"""The first policy learns from a person's demonstrations, but from none that ask what it is measured on."""

import json
from pathlib import Path

import pytest

from models.learning.settings import InitializationSettings
from models.policy.settings import PolicySettings
from storage.home import Home
from storage.lake import Lake
from storage.sources.file import FileProblems
from storage.sources.source import Splits
from tasks.initialize import Texts, demonstrate, reserve
from tasks.progress import Progress, heard_by
from tasks.turn import Turn

PROBLEMS = [f"What is {n} + {n}?" for n in range(9)]


class Ears:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def hear(self, progress: Progress) -> None: ...

    def say(self, text: str) -> None:
        self.said.append(text)


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def reserved(folder: Path) -> list[str]:
    """Reserves two problems for each split, and gives their questions. No fixtures: DuckDB would complain of leaks."""
    write(folder / "problems.jsonl", [{"question": question, "answer": "2"} for question in PROBLEMS])
    Lake(Home.open(folder / "home")).seed()
    reserve.fn(make_turn(folder), make_problems(folder), Splits(benchmark=2, final=2, development=2))
    return [problem.question for problem in make_turn(folder).lake.read("problems", "line-reserved")]


def make_turn(folder: Path) -> Turn:
    return Turn(root=folder / "home", line="line", run_id="run", round=0, seed=0)


def make_problems(folder: Path) -> FileProblems:
    return FileProblems(path=folder / "problems.jsonl", prompt="Q: {question}")


def learn_from(folder: Path, prompts: list[str]) -> Texts:
    path = write(folder / "demonstrations.jsonl", [{"prompt": prompt, "completion": "2"} for prompt in prompts])
    settings = InitializationSettings(file=str(path))
    return demonstrate(make_turn(folder), make_problems(folder), PolicySettings(), settings)


def test_demonstrations_of_reserved_problems_are_left_out_and_counted(tmp_path: Path) -> None:
    questions = reserved(tmp_path)
    with heard_by(ears := Ears()):
        texts = learn_from(tmp_path, [f"Q:  {question}" for question in PROBLEMS] + PROBLEMS)
    left = [question for question in PROBLEMS if question not in questions]
    assert texts == [(f"Q:  {question}", "2") for question in left] + [(question, "2") for question in left]
    assert ears.said == [
        f"12 of 18 demonstrations in {tmp_path}/demonstrations.jsonl ask benchmark, final or development problems, "
        "which never train: they are left out."
    ]


def test_where_all_demonstrations_are_of_reserved_problems_the_fix_is_told(tmp_path: Path) -> None:
    questions = reserved(tmp_path)
    with pytest.raises(ValueError, match=r"6 of 6 .* never train: add demonstrations of other problems, or name no f"):
        learn_from(tmp_path, questions)


def test_nothing_is_said_where_none_is_left_out(tmp_path: Path) -> None:
    reserved(tmp_path)
    with heard_by(ears := Ears()):
        assert learn_from(tmp_path, ["What is 7 times 6?"]) == [("What is 7 times 6?", "2")]
    assert ears.said == []
