from models.learning.batches import Example
from models.learning.examples import (
    Attempt,
    Pair,
    Solution,
    from_attempts,
    from_pairs,
    from_solutions,
    from_texts,
)
from models.policy.scratch import build_tokenizer

TOKENIZER = build_tokenizer(["12>;"], context=16)  # 1, 2, ;, > are 3, 4, 5, 6


def test_solutions_are_learnt_token_for_token_as_sampled() -> None:
    ended = Solution(name="t1", prompt="12>", token_ids=[4, 5, 1], share=0.8, weight=1.0)
    cut_off = Solution(name="t2", prompt="2>", token_ids=[3, 3], share=1.0, weight=0.5)
    assert from_solutions(TOKENIZER, [ended, cut_off]) == [
        (Example(name="t1", prompt_ids=(3, 4, 6), completion_ids=(4, 5, 1), share=0.8, advantages=(1.0, 1.0, 1.0)),),
        (Example(name="t2", prompt_ids=(4, 6), completion_ids=(3, 3), advantages=(0.5, 0.5)),),
    ]


def test_texts_get_an_end_mark_and_a_number() -> None:
    assert from_texts(TOKENIZER, [("1>", "2;"), ("2>", "")]) == [
        (Example(name="demonstration 1", prompt_ids=(3, 6), completion_ids=(4, 5, 1)),),
        (Example(name="demonstration 2", prompt_ids=(4, 6), completion_ids=(1,)),),
    ]


def test_a_pair_goes_on_from_what_both_share() -> None:
    pair = Pair(name="p1", prompt="12>", prefix=[4, 5], chosen=[3, 1], rejected=[4])
    assert from_pairs(TOKENIZER, [pair]) == [
        (
            Example(name="p1 chosen", prompt_ids=(3, 4, 6, 4, 5), completion_ids=(3, 1)),
            Example(name="p1 rejected", prompt_ids=(3, 4, 6, 4, 5), completion_ids=(4,)),
        )
    ]


def attempt(name: str, group: str, token_ids: list[int], solved: bool, **tree: list[float] | list[int]) -> Attempt:
    logprobs = [-0.5] * len(token_ids)
    return Attempt(name, group, "12>", token_ids, logprobs, 0.7, solved, tree.get("values"), tree.get("lengths"))  # type: ignore[arg-type]


def learnt(attempts: list[Attempt], **changes: object) -> dict[str, tuple[float, ...]]:
    options = {"baseline": "centred", "by_steps": False, "longest": 10, "overlong_tokens": 0} | changes
    return {unit[0].name: unit[0].advantages for unit in from_attempts(TOKENIZER, attempts, **options)}  # type: ignore[arg-type]


def test_attempts_are_compared_with_those_of_their_group_and_the_worthless_left_out() -> None:
    attempts = [
        attempt("a", "one", [3, 1], True),
        attempt("x", "two", [3, 1], True),  # with nothing to compare it with
        attempt("b", "one", [4, 1], False),
        attempt("y", "three", [3], True),
        attempt("z", "three", [4], True),
    ]
    assert learnt(attempts) == {"a": (0.5, 0.5), "b": (-0.5, -0.5)}


def test_an_attempt_keeps_how_it_was_sampled() -> None:
    (unit, _) = from_attempts(
        TOKENIZER,
        [attempt("a", "one", [3, 1], True), attempt("b", "one", [4, 1], False)],
        baseline="centred",
        by_steps=False,
        longest=10,
        overlong_tokens=0,
    )
    assert (unit[0].temperature, unit[0].sampled, unit[0].completion_ids) == (0.7, (-0.5, -0.5), (3, 1))


def test_in_a_tree_each_step_has_its_own_credit() -> None:
    right = attempt("a", "one", [3, 4, 1], True, values=[0.5, 0.75, 1.0], lengths=[2, 1])
    wrong = attempt("b", "one", [4, 1], False, values=[0.5, 0.0], lengths=[2])
    assert learnt([right, wrong], by_steps=True) == {"a": (0.25, 0.25, 0.25), "b": (-0.5, -0.5)}
    assert learnt([right, wrong]) == {"a": (0.5, 0.5, 0.5), "b": (-0.5, -0.5)}


def test_attempts_of_one_outcome_teach_nothing_whatever_their_lengths() -> None:
    long, short = [4] * 9, [3, 1]
    for solved in (True, False):
        assert not learnt([attempt("a", "one", long, solved), attempt("b", "one", short, solved)], overlong_tokens=4)


def test_an_answer_nearly_as_long_as_may_be_is_worth_less() -> None:
    short, long = attempt("a", "one", [3, 1], True), attempt("b", "one", [4] * 9, True)
    wrong = attempt("c", "one", [5, 1], False)
    weighed = learnt([short, long, wrong], overlong_tokens=4)
    assert weighed["a"][0] > weighed["b"][0] > weighed["c"][0]
