from collections.abc import Sequence

import pytest

from models.policy.protocol import Completion, Request
from models.search.best_of_n import GREEDY, WAVE, BestOfN
from models.search.protocol import Continue, Search, Task, Value

TASK = Task(prompt="4 26 7>15;", seed=100, max_new_tokens=24)


def answers(texts: Sequence[str]) -> list[Completion]:
    return [
        Completion(text=text, token_ids=[3], logprobs=[-0.5], prompt_tokens=10, stop_reason="end") for text in texts
    ]


def play(search: Search, texts: str, right: str = "") -> tuple[list[Continue | Value], list[Completion]]:
    """All that a search asks, and its attempts, where its answers are the letters, of which some are right."""
    waiting, asked, reply = answers(texts), list[Continue | Value](), None
    while True:
        try:
            asked.append(search.send(reply))  # type: ignore[arg-type]  # None starts it
        except StopIteration as end:
            return asked, end.value.attempts
        match asked[-1]:
            case Continue(requests):
                reply, waiting = waiting[: len(requests)], waiting[len(requests) :]
            case Value(judged):
                reply = [float(answer.text in right) for answer in judged]


def test_all_attempts_are_asked_for_at_once_each_with_a_seed_of_its_own() -> None:
    search = BestOfN(samples=3, temperature=0.8).search(TASK)
    assert next(search) == Continue(
        [
            Request(prompt="4 26 7>15;", seed=100, temperature=0.8, max_new_tokens=24),
            Request(prompt="4 26 7>15;", seed=101, temperature=0.8, max_new_tokens=24),
            Request(prompt="4 26 7>15;", seed=102, temperature=0.8, max_new_tokens=24),
        ]
    )


def test_every_attempt_is_returned_in_order_and_without_a_guide() -> None:
    asked, attempts = play(BestOfN(samples=2, temperature=1.0).search(TASK), "ab")
    assert (len(asked), attempts) == (1, answers("ab"))


@pytest.mark.parametrize(
    ("texts", "right", "num_made"),
    [
        ("abcdefghij", "", 10),  # none is right: all are made
        ("abcdefghij", "c", 10),
        ("abcdefghij", "cd", 4),
        ("abcdefghij", "abcd", 4),
        ("abcdefghij", "ah", 8),
        ("abcdefghij", "aj", 10),
        ("aaaaaaaaaa", "a", 4),
    ],
)
def test_enough_right_attempts_end_it_at_the_next_look(texts: str, right: str, num_made: int) -> None:
    _, attempts = play(BestOfN(samples=10, temperature=1.0, enough=2).search(TASK), texts, right)
    assert attempts == answers(texts[:num_made])


def test_a_guide_is_asked_about_each_attempt_once_and_never_when_nothing_hangs_on_it() -> None:
    asked, _ = play(BestOfN(samples=10, temperature=1.0, enough=2).search(TASK), "abcdefghij")
    judged = [answer.text for question in asked if isinstance(question, Value) for answer in question.answers]
    assert judged == [*"abcdefgh"]
    assert WAVE == 4


@pytest.mark.parametrize("enough", [0, 2])
def test_more_attempts_begin_with_the_same_ones(enough: int) -> None:
    few, many = (
        [
            request
            for question in play(BestOfN(samples=n, temperature=1.0, enough=enough).search(TASK), "x" * n)[0]
            if isinstance(question, Continue)
            for request in question.requests
        ]
        for n in (6, 9)
    )
    assert (len(few), len(many), many[:6]) == (6, 9, few)


def test_greedy_is_one_attempt_at_temperature_0() -> None:
    assert next(GREEDY.search(TASK)) == Continue(
        [Request(prompt="4 26 7>15;", seed=100, temperature=0.0, max_new_tokens=24)]
    )


def test_labels_name_strategy_and_budget() -> None:
    strategies = BestOfN(samples=8, temperature=0.7), BestOfN(samples=16, temperature=0.7, enough=2), GREEDY
    assert [strategy.label for strategy in strategies] == ["best_of_n(8)", "best_of_n(16, enough=2)", "greedy"]
