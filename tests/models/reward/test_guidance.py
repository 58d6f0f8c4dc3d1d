from collections.abc import Sequence

import pytest

from models.policy.protocol import Completion
from models.reward import outcome
from models.reward.guidance import Verified
from models.reward.protocol import Judgement
from models.reward.verifier import judge
from storage.records import Problem

RIGHT, WRONG = "26-4=22,7;22-7=15;", "26+4=30,7;30+7=37;"


def problem(numbers: str, target: int) -> Problem:
    return Problem(
        problem_id=f"{numbers}>{target}",
        source="countdown",
        split="train",
        prompt=f"{numbers}>{target};",
        question=f"{numbers}>{target}",
        data=f'{{"numbers": [{numbers.replace(" ", ", ")}], "target": {target}}}',
        verifier="countdown",
    )


def answer(text: str, stop_reason: str = "end") -> Completion:
    return Completion(text=text, token_ids=[1], logprobs=[-0.1], prompt_tokens=3, stop_reason=stop_reason)


ONE, OTHER = problem("4 7 26", 15), problem("4 7 26", 37)


def test_an_answer_is_worth_1_where_it_solves_its_problem() -> None:
    asked = [(ONE, answer(RIGHT)), (ONE, answer(WRONG)), (OTHER, answer(RIGHT)), (OTHER, answer(WRONG))]
    assert Verified().values(asked) == [1, 0, 0, 1]
    assert Verified.reads_gold


def test_a_right_text_that_was_cut_off_is_worth_nothing() -> None:
    guide = Verified()
    assert guide.values([(ONE, answer(RIGHT)), (ONE, answer(RIGHT, "length")), (ONE, answer(RIGHT))]) == [1, 0, 1]
    assert [judgement.reason for judgement in guide.judge([(ONE, answer(RIGHT, "length"))])] == ["truncated"]


def test_no_answer_is_judged_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []

    def listen(attempts: Sequence[tuple[Problem, str]]) -> list[Judgement]:
        judged.extend(f"{problem.problem_id} {text}" for problem, text in attempts)
        return judge(attempts)

    monkeypatch.setattr(outcome, "judge", listen)
    guide = Verified()
    guide.values([(ONE, answer(RIGHT)), (ONE, answer(RIGHT)), (ONE, answer(WRONG))])
    found = guide.judge([(ONE, answer(WRONG)), (OTHER, answer(WRONG)), (ONE, answer(RIGHT))])
    assert [judgement.solved for judgement in found] == [False, True, True]
    assert judged == [f"4 7 26>15 {RIGHT}", f"4 7 26>15 {WRONG}", f"4 7 26>37 {WRONG}"]
