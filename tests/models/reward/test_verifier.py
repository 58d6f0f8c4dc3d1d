"""From a problem's row to the verifier that judges it."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.reward.protocol import Judgement
from models.reward.verifier import VERIFIERS, judge, reads_gold
from storage.records import Problem


def problem(verifier: str, answer: str = "", data: str = "{}") -> Problem:
    return Problem(
        problem_id="p", source="s", split="train", prompt="", question="", answer=answer, data=data, verifier=verifier
    )


COUNTDOWN = problem("countdown", data=json.dumps({"numbers": [4, 26, 7], "target": 15}))
MATH = problem("math", answer="72")


def test_each_attempt_goes_to_its_problems_verifier_and_comes_back_in_order() -> None:
    attempts = [(MATH, "#### 72"), (COUNTDOWN, "26-4-7"), (MATH, "#### 1"), (COUNTDOWN, "1"), (MATH, "")]
    assert judge(attempts) == [
        Judgement(solved=True, reason="solved", answer="72"),
        Judgement(solved=True, reason="solved", answer="(26-4)-7"),
        Judgement(solved=False, reason="wrong", answer="1"),
        Judgement(solved=False, reason="wrong", answer="1"),
        Judgement(solved=False, reason="unparsed", answer=""),
    ]
    assert judge([]) == []


def test_an_unknown_verifier_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"unknown verifier 'oracle'; expected one of countdown, math, reasoning_gym"):
        judge([(COUNTDOWN, "26-4-7"), (problem("oracle"), "")])
    with pytest.raises(ValueError, match="unknown verifier"):
        reads_gold(problem("oracle"))


def test_countdown_alone_needs_no_gold() -> None:
    assert {name: reads_gold(problem(name)) for name in VERIFIERS} == {
        "countdown": False,
        "math": True,
        "reasoning_gym": True,
    }


def test_threads_share_the_verifiers() -> None:
    attempts = [(COUNTDOWN, "26-4-7"), (MATH, "#### 72")] * 500
    with ThreadPoolExecutor(8) as threads:
        judged = list(threads.map(judge, [attempts] * 8))
    assert all(judgement.solved for judgements in judged for judgement in judgements)
