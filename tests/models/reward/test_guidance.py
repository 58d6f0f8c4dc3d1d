import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from models.policy.protocol import Completion
from models.reward import outcome
from models.reward.guidance import GUIDES, Agreement, Likelihood, Rules, Verified
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


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("26-4=22,7;", True),
        ("26-4=22;", True),
        ("26-4=21,7;", False),  # it is 22
        ("26-5=21,7;", False),  # there is no 5
        ("26-4=22,8;", False),  # 7 is left
        ("26-4=22,7;22-7=15;", True),
        ("26-4=22,7;22-7=14;", False),
        ("26-4=21,7;~26-4=22,7;", True),  # taken back
        ("26-4=21,7;!26-4=22,7;", True),  # given up
        ("26-4=22,7;!26-4=21,7;", False),
        ("4/0=1,7 26;", False),
        ("Let us think.\n", True),  # cannot be read yet
        ("\x00" * 9000, True),
    ],
)
def test_an_unfinished_answer_is_worth_nothing_where_it_breaks_a_rule(text: str, holds: bool) -> None:
    asked = [(ONE, answer(text, "step"))]
    assert Verified().values(asked) == Rules().values(asked) == [0.5 if holds else 0.0]


def test_finished_and_unfinished_answers_keep_their_order() -> None:
    asked = [answer(RIGHT), answer("26-4=22,7;", "step"), answer(WRONG), answer("26-4=2,7;", "step"), answer(RIGHT)]
    assert Verified().values([(ONE, each) for each in asked]) == [1, 0.5, 0, 0, 1]


def test_the_rules_guide_where_no_gold_answer_is_read() -> None:
    assert Rules().values([(ONE, answer(RIGHT)), (ONE, answer(WRONG))]) == [1, 0]
    assert not Rules.reads_gold
    sum_of_two = replace(ONE, problem_id="p9", verifier="math", answer="7")
    with pytest.raises(
        ValueError, match="problem p9 states no rules that tell a right answer: its verifier math reads"
    ):
        Rules().values([(sum_of_two, answer("7"))])


def test_what_has_no_step_rules_is_unknown_until_it_ends() -> None:
    sum_of_two = replace(ONE, verifier="math", answer="7")
    assert Verified().values([(sum_of_two, answer("3+4 is 8\n", "step")), (sum_of_two, answer("7"))]) == [0.5, 1]


def test_likelihood_is_the_geometric_mean_and_never_sure() -> None:
    certain, coin = replace(answer("a"), logprobs=[0.0, 0.0]), replace(answer("a"), logprobs=[math.log(0.5)] * 9)
    empty = replace(answer(""), logprobs=[])
    assert Likelihood().values([(ONE, certain), (ONE, coin), (ONE, empty)]) == pytest.approx([0.999, 0.5, 0.0])


def test_agreement_is_the_share_of_a_problems_answers_so_far() -> None:
    asked = [(ONE, "#### 7"), (ONE, "#### 8"), (ONE, "#### 7"), (OTHER, "#### 8"), (ONE, "#### 7")]
    attempts = [(problem, answer(text)) for problem, text in asked]
    together = [3 / 5, 1 / 5, 3 / 5, 1 / 2, 3 / 5]  # (votes - 1 + 1) / (all - 1 + 2)
    assert Agreement().values(attempts) == pytest.approx(together)
    assert Agreement().values(attempts[::-1]) == pytest.approx(together[::-1])
    guide = Agreement()
    one_by_one = [guide.values([attempt])[0] for attempt in attempts]
    assert one_by_one == pytest.approx([1 / 2, 1 / 3, 2 / 4, 1 / 2, 3 / 5])
    assert guide.values([(ONE, answer("#### 7", "length")), (ONE, answer("4+3", "step"))]) == [0.0, 0.5]


def test_guides_say_whether_they_read_the_gold_answer() -> None:
    assert {name: guide().reads_gold for name, guide in GUIDES.items()} == {
        "verifier": True, "rules": False, "likelihood": False, "agreement": False,
    }  # fmt: skip
