"""Problems from a file of questions and answers, in an order of hashes: a new row moves few others.

The gold answer is taken out of a worked solution as GSM8K and MATH write them. A
question that is also in the benchmark file never trains; how many were refused is told.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from storage.prompt import check_template, template_fields
from storage.records import Problem, Split, make_id
from storage.sources.rows import Row, check_suffix, read_rows
from storage.sources.source import Capacity, question_id, typed_problem

GOLD_MARK = "####"
OPEN_BOX = r"\boxed{"
SURROGATE = re.compile(r"[\ud800-\udfff]")
SHOWN_CHARS = 60


@dataclass(frozen=True, kw_only=True)
class FileProblems:
    """Problems from a JSONL, JSON or Parquet file: `FileProblems(path=Path("gsm8k_train.jsonl"))`."""

    kind: Annotated[Literal["file"], "Questions and answers from a file."] = "file"
    path: Annotated[Path, "A .jsonl, .json (array of objects) or .parquet file."]
    question_column: Annotated[str, "Column of the question; the prompt calls it {question}."] = "question"
    answer_column: Annotated[str, "Column of the gold answer, or of a solution with it after #### or boxed."] = "answer"
    difficulty_column: Annotated[str | None, "Column of a difficulty label, where there is one."] = None
    benchmark_path: Annotated[Path | None, "A file of the same columns that alone makes benchmark and final."] = None
    prompt: Annotated[str, "Prompt template; fields: question, and any column but the answer."] = "{question}"
    seed: Annotated[int, "Seed of the order of problems."] = 0

    def __post_init__(self) -> None:
        for path in filter(None, (self.path, self.benchmark_path)):
            check_suffix(path)
        if self.question_column == self.answer_column:
            raise ValueError(f"question_column and answer_column are both {self.answer_column!r}; they must differ.")
        check_template(self.prompt, gold=self.answer_column)


class FileMaker:
    """Makes problems of a file's rows: `FileMaker(FileProblems(path=Path("train.jsonl")))`."""

    def __init__(self, settings: FileProblems) -> None:
        self._settings = settings
        self.name = _source_name(settings.path)

    def draws(self) -> Iterator[Problem]:
        """The file's problems, less those of the benchmark file."""
        reserved = {problem.problem_id for problem in self._benchmark or ()}
        return (problem for problem in self._all if problem.problem_id not in reserved)

    def held_out(self) -> Iterator[Problem] | None:
        """The benchmark file's problems."""
        return None if self._benchmark is None else iter(self._benchmark)

    def capacity(self) -> Capacity:
        """Exact: rows are counted."""
        return Capacity(count=sum(1 for _ in self.draws()), exact=True, note=self._refusals())

    def dry_advice(self) -> str:
        """More rows, of the right file."""
        paths = " or ".join(str(path) for path in (self._settings.path, self._settings.benchmark_path) if path)
        refusals = self._refusals()
        return f"add rows to {paths}" + (f" ({refusals})" if refusals else "")

    def parse(self, question: str) -> Problem:
        """A typed question; it has no gold answer, so nothing can judge it."""
        return typed_problem(question, self.name, self._settings.prompt)

    @cached_property
    def _all(self) -> list[Problem]:
        return read_problems(self._settings.path, self._settings)

    @cached_property
    def _benchmark(self) -> list[Problem] | None:
        path = self._settings.benchmark_path
        return None if path is None else read_problems(path, self._settings)

    def _refusals(self) -> str:
        num_refused = len(self._all) - sum(1 for _ in self.draws())
        if not num_refused:
            return ""
        return f"{num_refused:,} of {len(self._all):,} questions are in the benchmark file too and never train"


def read_problems(path: Path, settings: FileProblems) -> list[Problem]:
    """The distinct problems of a file, in the stream's order. Raises ValueError on a malformed row, saying where."""
    found: dict[str, tuple[str, Problem]] = {}
    for row in read_rows(path):
        problem = _make_problem(row, settings, _source_name(path))
        first_place, first = found.setdefault(problem.problem_id, (row.place, problem))
        if first.answer != problem.answer:
            raise ValueError(
                f"{row.place} asks what {first_place} asks, with the answer {problem.answer!r}, not {first.answer!r}; "
                f"correct one or take one out, or let {settings.question_column!r} hold all that tells them apart."
            )
    problems = [problem for _, problem in found.values()]
    problems.sort(key=lambda problem: make_id("order", settings.seed, problem.problem_id))
    return [replace(problem, position=position) for position, problem in enumerate(problems)]


def gold_answer(text: str) -> str:
    r"""What follows the last #### in its line, else stands in the last \boxed{}, else all: `"… #### 72"` gives `"72"`.

    Empty where nothing stands there, or the box is never closed.
    """
    _, mark, after = text.rpartition(GOLD_MARK)
    if mark:
        return after.strip().partition("\n")[0].rstrip()
    _, box, inside = text.rpartition(OPEN_BOX)
    return (inside[: _closing_brace(inside)] if box else text).strip()


def _closing_brace(text: str) -> int:
    """Where the brace opened before the text is closed; 0 where it never is."""
    depth = 1
    for position, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return position
    return 0


def _source_name(path: Path) -> str:
    return f"file:{path.name}"


def _make_problem(row: Row, settings: FileProblems, source: str) -> Problem:
    question = _read_text(row, settings.question_column)
    fields = {name: _read_text(row, name) for name in template_fields(settings.prompt) if name != "question"}
    difficulty = settings.difficulty_column
    return Problem(
        problem_id=question_id(question),
        source=source,
        split=Split.TRAIN,
        prompt=settings.prompt.format_map(fields | {"question": question}),
        question=question,
        answer=_read_gold(row, settings.answer_column),
        verifier="math",
        difficulty=_read_text(row, difficulty) if difficulty else "",
    )


def _read_gold(row: Row, column: str) -> str:
    text = _read_text(row, column)
    if gold := gold_answer(text):
        return gold
    raise ValueError(
        f"{row.place} has no gold answer in column {column!r}, which ends in {text[-SHOWN_CHARS:]!r}; "
        rf"expected it after {GOLD_MARK}, inside a closed {OPEN_BOX}}}, or alone."
    )


def _read_text(row: Row, column: str) -> str:
    """A cell as text; numbers are written out."""
    if column not in row.columns:
        found = ", ".join(row.columns) or "none"
        raise ValueError(f"{row.place} has no column {column!r}; its columns are {found}: name one of them, or add it.")
    cell = row.columns[column]
    if isinstance(cell, bool) or not isinstance(cell, str | int | float | Decimal):
        found = "empty" if cell is None else f"of type {type(cell).__name__}"
    elif not str(cell).strip():
        found = "empty"
    elif isinstance(cell, float) and not math.isfinite(cell):
        found = f"{cell}, which is no finite number"
    elif SURROGATE.search(str(cell)):
        found = "half of a surrogate pair, which is no character"
    else:
        return str(cell)
    raise ValueError(f"{row.place}: column {column!r} is {found}; expected a text or a number: correct or remove it.")
