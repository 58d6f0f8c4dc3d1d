"""Problems of rows that hold a question and its answer, in an order of hashes: a new row moves few others.

The gold answer is taken out of a worked solution as GSM8K and MATH write them. A
question that is also among the benchmark's rows never trains; how many were refused is told.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Protocol

from storage.prompt import check_template, template_fields
from storage.records import Problem, Split, make_id
from storage.sources.rows import Row, read_rows
from storage.sources.source import Capacity, question_id, typed_problem

GOLD_MARK = "####"
OPEN_BOX = r"\boxed{"
SURROGATE = re.compile(r"[\ud800-\udfff]")
SHOWN_CHARS = 60
Find = Callable[[], Sequence[Path]]
"""Gives the files that hold the rows."""


class Columns(Protocol):
    """Where a row has what, and how a policy is asked."""

    @property
    def question_column(self) -> str: ...
    @property
    def answer_column(self) -> str: ...
    @property
    def difficulty_column(self) -> str | None: ...
    @property
    def prompt(self) -> str: ...
    @property
    def seed(self) -> int: ...


def check_columns(columns: Columns) -> None:
    """Raise ValueError where question and answer are one, or the prompt shows the answer."""
    if columns.question_column == columns.answer_column:
        raise ValueError(f"question_column and answer_column are both {columns.answer_column!r}; they must differ.")
    check_template(columns.prompt, gold=columns.answer_column)


@dataclass(frozen=True, kw_only=True)
class QuestionMaker:
    """Makes problems of rows: `QuestionMaker(name="file:train.jsonl", columns=FileProblems(…), find=…, …)`."""

    name: str
    columns: Columns
    find: Find
    find_benchmark: Find | None
    """Of the rows that alone make benchmark and final."""
    benchmark_name: str
    """As `Problem.source` says it of those."""
    where: str
    """Where people may add rows."""

    def draws(self) -> Iterator[Problem]:
        """The rows' problems, less those of the benchmark's."""
        reserved = {problem.problem_id for problem in self._benchmark or ()}
        return (problem for problem in self._all if problem.problem_id not in reserved)

    def held_out(self) -> Iterator[Problem] | None:
        """The benchmark's problems."""
        return None if self._benchmark is None else iter(self._benchmark)

    def capacity(self) -> Capacity:
        """Exact: rows are counted."""
        return Capacity(count=sum(1 for _ in self.draws()), exact=True, note=self._refusals())

    def dry_advice(self) -> str:
        """More rows, of the right file."""
        refusals = self._refusals()
        return f"add rows to {self.where}" + (f" ({refusals})" if refusals else "")

    def parse(self, question: str) -> Problem:
        """A typed question; it has no gold answer, so nothing can judge it."""
        return typed_problem(question, self.name, self.columns.prompt)

    @cached_property
    def _all(self) -> list[Problem]:
        return read_problems(self.find(), self.columns, self.name)

    @cached_property
    def _benchmark(self) -> list[Problem] | None:
        if self.find_benchmark is None:
            return None
        return read_problems(self.find_benchmark(), self.columns, self.benchmark_name)

    def _refusals(self) -> str:
        num_refused = len(self._all) - sum(1 for _ in self.draws())
        if not num_refused:
            return ""
        return f"{num_refused:,} of {len(self._all):,} questions are in the benchmark file too and never train"


def read_problems(paths: Sequence[Path], columns: Columns, source: str) -> list[Problem]:
    """The distinct problems of files, in the stream's order. Raises ValueError on a malformed row, saying where."""
    found: dict[str, tuple[str, Problem]] = {}
    for row in chain.from_iterable(map(read_rows, paths)):
        problem = _make_problem(row, columns, source)
        first_place, first = found.setdefault(problem.problem_id, (row.place, problem))
        if first.answer != problem.answer:
            raise ValueError(
                f"{row.place} asks what {first_place} asks, with the answer {problem.answer!r}, not {first.answer!r}; "
                f"correct one or take one out, or let {columns.question_column!r} hold all that tells them apart."
            )
    problems = [problem for _, problem in found.values()]
    problems.sort(key=lambda problem: make_id("order", columns.seed, problem.problem_id))
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


def _make_problem(row: Row, columns: Columns, source: str) -> Problem:
    question = _read_text(row, columns.question_column)
    fields = {name: _read_text(row, name) for name in template_fields(columns.prompt) if name != "question"}
    difficulty = columns.difficulty_column
    return Problem(
        problem_id=question_id(question),
        source=source,
        split=Split.TRAIN,
        prompt=columns.prompt.format_map(fields | {"question": question}),
        question=question,
        answer=_read_gold(row, columns.answer_column),
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
