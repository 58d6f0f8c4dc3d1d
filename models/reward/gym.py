"""Judges reasoning-gym problems with the library's own scorers, in worker processes.

Solved means a score of 1.0 and nothing less: many scorers give a little for
anything. Several hand the answer to `eval` or to sympy's `parse_expr`, which
evaluates; in the workers both are replaced by readers that do not.
"""

import ast
import importlib
import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from models.reward import countdown
from models.reward.isolated import MAX_ANSWER_CHARS, MAX_CHARS, Isolated
from models.reward.protocol import Judgement
from models.reward.text import find_boxed, find_tagged
from storage.records import Problem

EVAL_MODULES = (
    "algorithmic.binary_matrix",
    "algorithmic.spiral_matrix",
    "algorithmic.string_insertion",
    "games.n_queens",
)
"""Their scorers evaluate an answer that looks like a list."""
PARSE_EXPR_MODULES = ("games.countdown", "games.puzzle24")
"""They hold a `parse_expr` of their own; others reach it through sympy."""
PUZZLE24 = "puzzle24"
"""Its scorer takes any four numbers for those of the problem: one answer would solve all."""
BOARD_DATASETS = ("arc_agi", "rearc")
"""Their scorers compare tuples, which JSON has made lists."""
EXPRESSION = re.compile(r"[\s0-9A-Za-z+\-*/^().,]*")
ATTRIBUTE = re.compile(r"\.\s*[A-Za-z]")
NAME = re.compile(r"[A-Za-z]+")
FUNCTIONS = frozenset(
    {"pi", "exp", "log", "ln", "sqrt", "Abs"}
    | {"sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan", "sinh", "cosh", "tanh"}
    | {"asinh", "acosh", "atanh"}
)


class GymVerifier:
    """Reads `data`: `{"dataset": name, "params": {…}, "entry": {"question": …, "answer": …, "metadata": {…}}}`."""

    reads_gold = True

    def __init__(self) -> None:
        self.isolated = Isolated(score, load)

    def judge(self, attempts: Sequence[tuple[Problem, str]]) -> list[Judgement]:
        """One judgement an attempt, in order."""
        pairs = [(problem.data, find_answer(text)) for problem, text in attempts]
        return self.isolated.judge([pair if 0 < len(pair[1]) <= MAX_CHARS else unparsed(pair[1]) for pair in pairs])


def unparsed(answer: str) -> Judgement:
    """The judgement of an answer that is not worth a scorer's time."""
    return Judgement(solved=False, reason="unparsed", answer=answer[:MAX_ANSWER_CHARS])


def find_answer(text: str) -> str:
    """What stands in the last <answer> tags, else in the last \\boxed{}, else the whole text."""
    for found in (find_tagged(text), find_boxed(text)):
        if found is not None:
            return found
    return text.strip()


# What follows runs in the workers.


def load() -> None:
    """Import the library, and take evaluation out of its scorers."""
    import reasoning_gym
    import sympy

    package = reasoning_gym.__name__
    for name in EVAL_MODULES:
        vars(importlib.import_module(f"{package}.{name}"))["eval"] = ast.literal_eval
    guarded = guard(sympy.parse_expr)
    for module in (sympy, *(importlib.import_module(f"{package}.{name}") for name in PARSE_EXPR_MODULES)):
        vars(module)["parse_expr"] = guarded


def guard(parse_expr: Callable[..., Any]) -> Callable[..., Any]:
    """`parse_expr` for formulas only."""

    def parse_formula(text: str, *args: Any, **kwargs: Any) -> Any:
        if not is_formula(text):
            raise ValueError(f"expected a formula, found {text[:MAX_ANSWER_CHARS]!r}")
        return parse_expr(text, *args, **kwargs)

    return parse_formula


def is_formula(text: str) -> bool:
    """Whether a text has only numbers, operators, one-letter variables and well-known functions."""
    if not EXPRESSION.fullmatch(text) or ATTRIBUTE.search(text):
        return False
    return all(len(name) == 1 or name in FUNCTIONS for name in NAME.findall(text))


@lru_cache(maxsize=16)
def open_dataset(name: str, params: str) -> Any:
    """The dataset that scores: some scorers depend on its parameters."""
    from reasoning_gym.factory import create_dataset

    return create_dataset(name, **json.loads(params))


def score(data: str, answer: str) -> Judgement:
    """Judge one answer."""
    problem = json.loads(data)
    dataset = open_dataset(problem["dataset"], json.dumps(problem.get("params", {}), sort_keys=True))
    entry = problem["entry"]
    if problem["dataset"] == PUZZLE24:
        return countdown.judge(tuple(entry["metadata"]["numbers"]), 24, answer)
    if problem["dataset"] in BOARD_DATASETS:
        entry["metadata"] = {key: as_tuples(value) for key, value in entry["metadata"].items()}
    solved = float(dataset.score_answer(answer, entry)) == 1.0
    return Judgement(solved=solved, reason="solved" if solved else "wrong", answer=answer[:MAX_ANSWER_CHARS])


def as_tuples(value: Any) -> Any:
    """The value with each list in it a tuple."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value
