"""reasoning-gym's own scorers, made safe: real data sets, real and hostile answers."""

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reasoning_gym

from models.reward.gym import GymVerifier, is_formula
from models.reward.protocol import Judgement
from storage.records import Problem

EVALUATING = [
    "binary_matrix",
    "n_queens",
    "polynomial_multiplication",
    "puzzle24",
    "simple_integration",
    "spiral_matrix",
    "string_insertion",
]
"""Data sets whose scorers hand the answer to `eval` or `parse_expr`."""
PLAIN = ["arc_agi", "chain_sum", "gsm_symbolic", "leg_counting", "number_sorting", "spell_backward", "word_sorting"]


@pytest.fixture(scope="module")
def verifier() -> Iterator[GymVerifier]:
    verifier = GymVerifier()
    yield verifier
    verifier.isolated.close()


def entries(name: str, size: int = 5) -> list[dict[str, Any]]:
    return list(reasoning_gym.create_dataset(name, size=size, seed=1))


def problem(name: str, entry: dict[str, Any]) -> Problem:
    data = json.dumps({"dataset": name, "params": {}, "entry": entry}, default=str)
    return Problem(
        problem_id="p",
        source=f"reasoning_gym:{name}",
        split="train",
        prompt="",
        question=entry["question"],
        answer=entry["answer"],
        data=data,
        verifier="reasoning_gym",
    )


def test_gold_answers_are_solved(verifier: GymVerifier) -> None:
    cases = [(name, entry) for name in EVALUATING + PLAIN for entry in entries(name)]
    plain = verifier.judge([(problem(name, entry), entry["answer"]) for name, entry in cases])
    tagged = verifier.judge(
        [(problem(name, entry), f"So <answer>{entry['answer']}</answer>.") for name, entry in cases]
    )
    for judgements in (plain, tagged):
        unsolved = [name for (name, _), judgement in zip(cases, judgements, strict=True) if not judgement.solved]
        assert unsolved == []


def test_no_one_answer_makes_24_of_all_numbers(verifier: GymVerifier) -> None:
    mine, other = (problem("puzzle24", entry) for entry in entries("puzzle24", 2))
    answers = ["4*6*1*1", other.answer, mine.answer]
    assert [judgement.solved for judgement in verifier.judge([(mine, answer) for answer in answers])] == [
        False,
        False,
        True,
    ]


def test_another_problems_answer_is_wrong(verifier: GymVerifier) -> None:
    first, second = entries("chain_sum", 2)
    assert verifier.judge([(problem("chain_sum", first), second["answer"])]) == [
        Judgement(solved=False, reason="wrong", answer=second["answer"])
    ]


def test_an_integral_left_standing_is_no_answer(verifier: GymVerifier) -> None:
    entry = entries("intermediate_integration", 1)[0]
    standing = f"Integral({entry['metadata']['integrand']}, x) + C"
    dataset = reasoning_gym.create_dataset("intermediate_integration", size=1, seed=1)
    assert dataset.score_answer(standing, entry) == 1.0
    assert not verifier.judge([(problem("intermediate_integration", entry), standing)])[0].solved


def test_nearly_right_is_not_right(verifier: GymVerifier) -> None:
    entry = entries("chain_sum", 1)[0]
    dataset = reasoning_gym.create_dataset("chain_sum", size=1, seed=1)
    nearly = f"{entry['answer']} or so"
    assert 0 < dataset.score_answer(nearly, entry) < 1
    assert [judgement.reason for judgement in verifier.judge([(problem("chain_sum", entry), nearly)])] == ["wrong"]


HOSTILE = [
    "__import__('os').system('touch {}')",
    "[__import__('os').system('touch {}')]",
    "[[__import__('os').system('touch {}')]]",
    "[open('{}', 'w')]",
    "exec(\"open('{}', 'w')\")",
    "S(\"__import__('os').system('touch {}')\")",
    "x.__class__.__mro__",
    "lambda: 0",
    "Max(12, 9, 5)",
    "[" * 9_000,
    "(" * 9_000,
    "1" * 15_000,
    "\x00",
    "٣",
    "",
]


def test_hostile_answers_have_no_effect(verifier: GymVerifier, tmp_path: Path) -> None:
    target = tmp_path / "touched"
    attempts = [
        (problem(name, entry), hostile.format(target) if "{}" in hostile else hostile)
        for name in [*EVALUATING, "intermediate_integration", "number_sorting"]
        for entry in entries(name, 1)
        for hostile in HOSTILE
    ]
    judgements = verifier.judge(attempts)
    assert not any(judgement.solved for judgement in judgements)
    assert all(len(judgement.answer) <= 200 for judgement in judgements)
    assert not target.exists()


def test_an_endless_power_is_a_timeout(verifier: GymVerifier) -> None:
    entry = entries("polynomial_multiplication", 1)[0]
    attempts = [(problem("polynomial_multiplication", entry), text) for text in ("9**9**9**9", entry["answer"])]
    assert [judgement.reason for judgement in verifier.judge(attempts)] == ["timeout", "solved"]


def test_a_megabyte_is_not_sent_to_a_scorer() -> None:
    children = multiprocessing.active_children()
    verifier = GymVerifier()
    entry = entries("chain_sum", 1)[0]
    judgements = verifier.judge([(problem("chain_sum", entry), text) for text in ("1" * 1_000_000, "", " ")])
    assert [judgement.reason for judgement in judgements] == ["unparsed"] * 3
    assert multiprocessing.active_children() == children


def test_an_unknown_data_set_is_an_error_not_a_solution(verifier: GymVerifier) -> None:
    entry = entries("chain_sum", 1)[0]
    [judgement] = verifier.judge([(problem("no_such_set", entry), entry["answer"])])
    assert (judgement.solved, judgement.reason) == (False, "error")
    assert "no_such_set" in judgement.answer


@pytest.mark.parametrize("text", ["3*x**2 - x/2 + C", "sin(x)*exp(-x)", "10*(8 - 5) - 6", "sqrt(2)", ""])
def test_formulas(text: str) -> None:
    assert is_formula(text)


@pytest.mark.parametrize(
    "text", ["Max(1,2)", "x.real", "x . real", "a[0]", "f'x'", "'x'", "x=1", "x;y", "_", "1_000", "ﬁ", "eval(x)", "９"]
)
def test_no_formulas(text: str) -> None:
    assert not is_formula(text)
