"""What holds for every strategy: it finds what there is, keeps its budget, and depends on nothing but its task."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from models.policy.protocol import Completion
from models.search.beam import Beam
from models.search.best_of_n import BestOfN
from models.search.budget import Budget
from models.search.driver import drive
from models.search.mcts import MCTS
from models.search.protocol import Found, Strategy, Task
from tests.models.search.scripted import Table, TablePolicy
from tests.models.search.test_mcts import random_table

GOLDEN = Path(__file__).with_name("golden_trees.json")
MAKE: dict[str, Callable[[Budget], Strategy]] = {
    "mcts": lambda budget: MCTS(budget=budget, boundary=";"),
    "mcts, valued steps": lambda budget: MCTS(budget=budget, boundary=";", rolls_out=False),
    "beam": lambda budget: Beam(budget=budget, boundary=";"),
    "dvts": lambda budget: Beam(budget=budget, boundary=";", is_diverse=True),
    "beam, rollouts": lambda budget: Beam(budget=budget, boundary=";", rollouts=2),
    "dvts, rollouts": lambda budget: Beam(budget=budget, boundary=";", expansion=2, rollouts=1, is_diverse=True),
}
trees = pytest.mark.parametrize("name", MAKE)


class Likeness:
    """Worth 1 for the wanted text, else the share of its beginning that is right."""

    reads_gold = False

    def __init__(self, wanted: dict[int, str]) -> None:
        self.wanted = wanted

    def values(self, asked: list[tuple[int, Completion]]) -> list[float]:
        return [self.value(self.wanted[key], answer) for key, answer in asked]

    def value(self, wanted: str, answer: Completion) -> float:
        if answer.stop_reason == "end" and answer.text == wanted:
            return 1.0
        same = next((i for i, (a, b) in enumerate(zip(wanted, answer.text, strict=False)) if a != b), len(answer.text))
        return min(0.9, (1 + same) / (len(wanted) + 2))


def find(searches: Iterable[tuple[int, Any]], policy: Any, guide: Any, **options: int) -> dict[int, Found]:
    return dict(pair for batch in drive(searches, policy, guide, **options) for pair in batch)


def needle(depth: int) -> tuple[dict[str, dict[str, float]], str]:
    """A table with four steps a node, and the one text that is wanted."""
    table: dict[str, dict[str, float]] = {}

    def fill(beginning: str, left: int) -> None:
        steps = ["a;", "b;", "c;", "d;"] if left else ["a$", "b$", "c$", "d$"]
        table[beginning] = {step: 0.25 for step in steps}
        if left:
            for step in steps:
                fill(beginning + step, left - 1)

    fill("", depth)
    return table, "c;" * depth + "b"


@trees
def test_it_finds_the_one_right_answer_of_256(name: str) -> None:
    table, wanted = needle(3)
    task = Task(prompt="p", seed=3, max_new_tokens=40)
    found = find([(0, MAKE[name](Budget(tokens=1200)).search(task))], TablePolicy(table), Likeness({0: wanted}))[0]
    assert found.attempts[0].text == wanted
    assert found.num_tokens < 1200
    assert found.leaves[0].value == 1.0


@trees
@pytest.mark.parametrize("tokens", [1, 2, 7, 40, 333])
def test_a_budget_of_tokens_is_kept_exactly(name: str, tokens: int) -> None:
    table, _ = needle(3)
    policy = TablePolicy(table)
    task = Task(prompt="p", seed=5, max_new_tokens=40)
    found = find([(0, MAKE[name](Budget(tokens=tokens)).search(task))], policy, Likeness({0: "none"}))[0]
    assert found.num_tokens == policy.num_tokens <= tokens
    assert tokens - found.num_tokens < 9
    assert found.attempts


@trees
def test_trees_do_not_depend_on_batches_shards_or_order(name: str) -> None:
    tables = {key: random_table(Random(key)) for key in range(60)}
    wanted = {key: "a;bb;c" for key in tables}

    class Many(TablePolicy):
        """Each prompt has a table of its own."""

        def answer(self, request: Any) -> Completion:
            self.table = tables[int(request.prompt)]
            return super().answer(request)

    def grow(keys: Iterable[int], max_rows: int, order: int, in_flight: int) -> dict[int, Any]:
        strategy = MAKE[name](Budget(tokens=150))
        tasks = ((key, strategy.search(Task(prompt=f"{key}", seed=key, max_new_tokens=40))) for key in keys)
        found = find(tasks, Many({}, max_rows=max_rows, order=order), Likeness(wanted), in_flight=in_flight)
        return {key: shape(each) for key, each in found.items()}

    alone = {key: grow([key], 1, 0, 1)[key] for key in tables}
    assert grow(tables, 1000, 0, 2048) == alone
    assert grow(reversed(list(tables)), 7, 3, 16) == alone
    assert grow(range(0, 60, 2), 3, 9, 5) | grow(range(1, 60, 2), 64, 4, 100) == alone


def shape(found: Found) -> list[tuple[str, int, int, float]]:
    """A tree as text."""
    assert found.root is not None
    return [
        ("".join(map(chr, node.prefix)), node.draws, node.visits, round(node.value, 6)) for node in found.root.walk()
    ]


@trees
def test_recorded_trees_grow_again(name: str) -> None:
    """`python -m tests.models.search.test_strategies` records them anew."""
    recorded = json.loads(GOLDEN.read_text())
    assert [list(row) for row in golden(name)] == recorded[name]


def golden(name: str) -> list[tuple[str, int, int, float]]:
    task = Task(prompt="p", seed=11, max_new_tokens=40)
    guide = Likeness({0: "a;bb;c"})
    search = MAKE[name](Budget(tokens=120)).search(task)
    return shape(find([(0, search)], TablePolicy(random_table(Random(4))), guide)[0])


TROUBLED: dict[str, tuple[Table, str]] = {
    "endless": ({"": {"a;": 1.0}, **{"a;" * n: {"a;": 1.0} for n in range(1, 30)}}, "length"),
    "a step without end": ({"": {"a" * 100: 1.0}}, "length"),
    "no step at the start": ({"": {}}, "error"),
    "no step after the first": ({"": {"a;": 1.0}, "a;": {}}, "error"),
    "an empty answer": ({"": {"$": 1.0}}, "end"),
    "empty steps": ({"": {";": 1.0}, ";": {"$": 1.0}}, "end"),
}


@trees
@pytest.mark.parametrize("trouble", TROUBLED)
def test_trouble_is_an_attempt_with_a_reason_and_harms_nobody(name: str, trouble: str) -> None:
    table, reason = TROUBLED[trouble]
    good, wanted = needle(2)

    class Both(TablePolicy):
        def answer(self, request: Any) -> Completion:
            self.table = table if request.prompt == "0" else good
            return super().answer(request)

    strategy = MAKE[name](Budget(tokens=600))
    searches = ((key, strategy.search(Task(prompt=f"{key}", seed=key, max_new_tokens=40))) for key in range(5))
    found = find(searches, Both({}), Likeness(dict.fromkeys(range(5), wanted)))
    assert {attempt.stop_reason for attempt in found[0].attempts} == {reason}
    assert all(found[key].attempts[0].text == wanted for key in range(1, 5))


@trees
@pytest.mark.parametrize("number", [0, 1, 4])
def test_one_continuation_that_fails_costs_no_more_than_itself(name: str, number: int) -> None:
    table, wanted = needle(2)

    class Failing(TablePolicy):
        """Fails once."""

        asked = 0

        def answer(self, request: Any) -> Completion:
            self.asked += 1
            if self.asked == number + 1:
                return Completion(text="", token_ids=[], logprobs=[], prompt_tokens=3, stop_reason="error")
            return super().answer(request)

    task = Task(prompt="p", seed=3, max_new_tokens=40)
    found = find([(0, MAKE[name](Budget(tokens=900)).search(task))], Failing(table), Likeness({0: wanted}))[0]
    assert found.attempts[0].text == wanted


def test_best_of_n_counts_all_that_it_generated() -> None:
    table, _ = needle(2)
    policy = TablePolicy(table)
    found = find(
        [(0, BestOfN(samples=5, temperature=1.0).search(Task(prompt="p", seed=1, max_new_tokens=40)))], policy, None
    )
    assert found[0].num_tokens == policy.num_tokens == 30


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({name: golden(name) for name in MAKE}, indent=None, separators=(",", ":")) + "\n")
