from models.policy.protocol import Completion, Request
from models.search.best_of_n import GREEDY, BestOfN
from models.search.protocol import Task

TASK = Task(prompt="4 26 7>15;", seed=100, max_new_tokens=24)


def test_all_attempts_are_asked_for_at_once_each_with_a_seed_of_its_own() -> None:
    search = BestOfN(samples=3, temperature=0.8).search(TASK)
    assert next(search) == [
        Request(prompt="4 26 7>15;", seed=100, temperature=0.8, max_new_tokens=24),
        Request(prompt="4 26 7>15;", seed=101, temperature=0.8, max_new_tokens=24),
        Request(prompt="4 26 7>15;", seed=102, temperature=0.8, max_new_tokens=24),
    ]


def test_more_attempts_begin_with_the_same_ones() -> None:
    few, many = (next(BestOfN(samples=samples, temperature=1.0).search(TASK)) for samples in (2, 5))
    assert list(many)[:2] == list(few)


def test_every_attempt_is_returned_in_order() -> None:
    search = BestOfN(samples=2, temperature=1.0).search(TASK)
    next(search)
    answers = [
        Completion(text=text, token_ids=[3], logprobs=[-0.5], prompt_tokens=10, stop_reason="end") for text in "ab"
    ]
    try:
        search.send(answers)
    except StopIteration as end:
        assert end.value == answers
    else:
        raise AssertionError("it asked again")


def test_greedy_is_one_attempt_at_temperature_0() -> None:
    assert next(GREEDY.search(TASK)) == [Request(prompt="4 26 7>15;", seed=100, temperature=0.0, max_new_tokens=24)]


def test_labels_name_strategy_and_budget() -> None:
    assert [BestOfN(samples=8, temperature=0.7).label, GREEDY.label] == ["best_of_n(8)", "greedy"]
