from typing import Any

import pytest

from models.policy.protocol import Completion
from models.search import budget
from models.search.budget import Budget


def tokens(num: int) -> Completion:
    return Completion(text="", token_ids=[1] * num, logprobs=[0.0] * num, prompt_tokens=1, stop_reason="end")


def test_tokens_are_shared_out_before_they_are_spent() -> None:
    account = Budget(tokens=100).open()
    assert account.afford(4, 96) == (4, 25)
    account.pay([tokens(25), tokens(10), tokens(25), tokens(25)])
    assert account.afford(4, 96) == (4, 3)
    assert account.afford(1, 96) == (1, 15)
    assert account.afford(40, 96) == (15, 1)
    account.pay([tokens(15)])
    assert account.afford(1, 96) == (0, 0)


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
    assert Budget(tokens=10, nodes=2, seconds=60).open().afford(5, 96) == (2, 5)
    assert str(Budget(tokens=10, nodes=2, seconds=1.5)) == "10 tokens, 2 nodes, 1.5 s"


@pytest.mark.parametrize("bounds", [{}, {"tokens": 0}, {"tokens": -1}, {"tokens": 5, "seconds": -1.0}])
def test_a_budget_that_bounds_nothing_is_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected tokens, nodes or seconds above 0"):
        Budget(**bounds)
