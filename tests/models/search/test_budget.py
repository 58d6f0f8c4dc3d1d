from typing import Any

import pytest

from models.policy.protocol import Completion
from models.search import budget
from models.search.budget import Budget, read_budget


def tokens(num: int) -> Completion:
    return Completion(text="", token_ids=[1] * num, logprobs=[0.0] * num, prompt_tokens=1, stop_reason="end")


def test_each_continuation_has_room_for_all_it_may_write_and_then_for_twice_the_longest() -> None:
    account = Budget(tokens=300).open()
    assert account.afford(9, 96) == (3, 96)
    assert account.afford(2, 96) == (2, 96)
    account.pay([tokens(25), tokens(10)])
    assert account.afford(9, 96) == (5, 53)
    assert account.afford(9, 96, max_steps=1) == (2, 96)  # another kind
    account.pay([tokens(8)], max_steps=1)
    assert account.afford(40, 96, max_steps=1) == (16, 16)
    account.pay([tokens(16)] * 15, max_steps=1)
    assert account.afford(9, 96) == (1, 17)
    account.pay([tokens(17)])
    assert account.afford(1, 96) == (0, 0)


def test_what_never_wrote_a_token_is_given_room_for_one() -> None:
    account = Budget(tokens=10).open()
    account.pay([tokens(0)] * 3)
    assert account.afford(20, 96) == (10, 1)


def test_nodes_are_continuations() -> None:
    account = Budget(nodes=5).open()
    account.pay([tokens(1)] * 3)
    assert account.afford(4, 96) == (2, 96)
    account.pay([tokens(1)] * 2)
    assert account.afford(1, 96) == (0, 0)


def test_seconds_are_looked_at_before_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 101.9, 102.0])
    monkeypatch.setattr(budget, "monotonic", lambda: next(clock))
    account = budget.Account(Budget(seconds=2.0), started=next(clock))
    assert account.afford(1, 9) == (1, 9)
    assert account.afford(1, 9) == (0, 0)


def test_several_bounds_hold_together() -> None:
    assert Budget(tokens=10, nodes=2, seconds=60).open().afford(5, 5) == (2, 5)
    assert str(Budget(tokens=10, nodes=2, seconds=1.5)) == "10 tokens, 2 nodes, 1.5 s"


@pytest.mark.parametrize("bounds", [{}, {"tokens": 0}, {"tokens": -1}, {"tokens": 5, "seconds": -1.0}])
def test_a_budget_that_bounds_nothing_is_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected tokens, nodes or seconds above 0"):
        Budget(**bounds)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("600", Budget(tokens=600)),
        ("600 tokens", Budget(tokens=600)),
        ("1 node", Budget(nodes=1)),
        ("40nodes", Budget(nodes=40)),
        ("2 s", Budget(seconds=2.0)),
        ("0.5 seconds", Budget(seconds=0.5)),
        (" 600 tokens , 40 nodes,2s", Budget(tokens=600, nodes=40, seconds=2.0)),
    ],
)
def test_a_budget_is_read_as_it_is_written(text: str, budget: Budget) -> None:
    assert read_budget(text) == budget
    assert read_budget(str(budget)) == budget


@pytest.mark.parametrize("text", ["", "many", "600, 700 tokens", "1.5 nodes", "2 h", "-3", "600;2 s", "0"])
def test_what_says_no_budget_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected tokens, nodes or seconds"):
        read_budget(text)
