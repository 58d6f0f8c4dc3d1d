"""Budgets of a round's problems: shares by hand, and what a round before left over."""

from typing import Any

import pytest

from storage.effort import budgets, raise_by
from storage.lake import Lake
from storage.warehouse import Warehouse


def test_a_budget_is_in_proportion_to_the_attempts_that_a_right_answer_takes() -> None:
    assert budgets([0.5, 0.25, 0.25], configured=10, raised=1.0) == [6, 12, 12]
    assert budgets([0.5, 0.25, 0.25], configured=10, raised=1.5) == [9, 18, 18]


def test_a_new_problem_gets_the_mean() -> None:
    assert budgets([None, None], configured=16, raised=1.0) == [16, 16]
    assert budgets([0.5, None, 0.25], configured=12, raised=1.0) == [8, 12, 16]


def test_no_problem_gets_nothing_or_all() -> None:
    found = budgets([0.9] * 99 + [0.001], configured=16, raised=1.0)
    assert found[-1] / sum(found) == pytest.approx(4 / (4 + 99 * 0.25), abs=0.02)  # 0.9 takes a tenth of the mean
    assert sum(budgets([0.9] * 99 + [0.001], configured=1, raised=1.0)) >= 100
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

    return publish


def test_what_the_last_round_left_over_raises_the_next_one(publish: Any, warehouse: Warehouse) -> None:
    assert raise_by(warehouse, line="main", round=1) == 1.0
    publish(1, "best_of_n(8)", a=(0, 8), b=(0, 8))  # as configured
    assert raise_by(warehouse, line="main", round=2) == 1.0
    publish(2, "best_of_n(8)", a=(8, 4), b=(10, 8))
    assert raise_by(warehouse, line="main", round=3) == 18 / 12
    assert raise_by(warehouse, line="other", round=3) == 1.0
    publish(3, "mcts(60 tokens)", a=(60, 4), b=(60, 7))
    assert raise_by(warehouse, line="main", round=4) == 120 / 110
    publish(4, "mcts(60 tokens)", a=(60, 1), b=(60, 1))
    assert raise_by(warehouse, line="main", round=5) == 2.0
