"""Budgets of a round's problems: shares by hand, and what a round before left over."""

from typing import Any

import pytest

from storage.effort import budgets, raise_by
from storage.lake import Lake
from storage.warehouse import Warehouse


def test_a_budget_is_in_proportion_to_need() -> None:
    assert budgets([0.5, 1.0, 2.0], configured=10, raised=1.0) == [5, 10, 20]
    assert budgets([0.5, 1.0, 2.0], configured=10, raised=1.5) == [8, 15, 30]


def test_a_problem_gets_the_same_whatever_stands_beside_it() -> None:
    alone = budgets([1.7], configured=16, raised=1.0)
    assert budgets([1.7, 3.9, 0.3, None], configured=16, raised=1.0)[:1] == alone


def test_a_new_problem_gets_what_is_configured() -> None:
    assert budgets([None, None], configured=16, raised=1.0) == [16, 16]


def test_no_problem_gets_nothing_or_all() -> None:
    assert budgets([0.001, 900.0], configured=16, raised=1.0) == [4, 64]
    assert budgets([0.001], configured=1, raised=1.0) == [1]
    assert budgets([], configured=16, raised=1.0) == []


@pytest.fixture
def publish(lake: Lake, sample: Any) -> Any:
    """`publish(round, "best_of_n(8)", a=(8, 3))`: each problem's budget, and the attempts that were made of it."""

    def publish(round: int, strategy: str, **problems: tuple[int, int]) -> None:
        place = {"line": "main", "run_id": "r", "round": round}
        draws = [sample("draws", **place, problem_id=name, budget=budget) for name, (budget, _) in problems.items()]
        attempts = [
            sample("trajectories", **place, problem_id=name, strategy=strategy, sample=number, num_tokens=10)
            for name, (_, made) in problems.items()
            for number in range(made)
        ]
        lake.publish("draws", f"r-{round}", draws)
        lake.publish("trajectories", f"r-{round}", attempts)
        lake.publish("rounds", f"r-{round}", [sample("rounds", **place)])

    return publish


def test_what_was_saved_raises_the_next_round(publish: Any, warehouse: Warehouse) -> None:
    def raised(round: int, configured: int, line: str = "main") -> float:
        return raise_by(warehouse, line=line, round=round, configured=configured)

    assert raised(1, 16) == 1.0
    publish(1, "best_of_n(8)", a=(0, 8), b=(0, 8))  # as configured
    assert raised(2, 16) == 1.0
    publish(2, "best_of_n(8)", a=(8, 4), b=(10, 8))
    assert raised(3, 20) == 1 + 6 / 20
    assert raised(3, 20, line="other") == 1.0
    publish(3, "mcts(60 tokens)", a=(60, 4), b=(60, 7))
    assert raised(4, 120) == 1 + 10 / 120
    publish(4, "mcts(60 tokens)", a=(130, 6), b=(0, 6))  # raised, and no more spent than was configured
    assert raised(5, 120) == 1 + 10 / 120
    publish(5, "mcts(60 tokens)", a=(180, 1), b=(60, 1))
    assert raised(6, 120) == 2.0
