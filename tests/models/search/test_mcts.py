"""PUCT by hand, a slow implementation of our own that agrees, and searches with a policy that is a table."""

import math
from collections.abc import Callable
from random import Random

import pytest

from models.policy.protocol import Completion, Known, Request
from models.search.budget import Budget
from models.search.driver import drive
from models.search.mcts import MCTS
from models.search.protocol import Found, Task
from models.search.tree import Node
from tests.models.search.scripted import Table, TablePolicy

TASK = Task(prompt="p", seed=7, max_new_tokens=40)


class Wanted:
    """A guide: worth 1 where the text is wanted, 0 where not; by a function else."""

    reads_gold = False

    def __init__(self, worth: Callable[[str], float]) -> None:
        self.worth = worth

    def values(self, asked: list[tuple[int, Completion]]) -> list[float]:
        return [self.worth(answer.text) for _, answer in asked]


def run(strategy: MCTS, table: Table, worth: Callable[[str], float], task: Task = TASK) -> Found:
    (((_, found),),) = [
        batch for batch in drive([(0, strategy.search(task))], TablePolicy(table), Wanted(worth)) if batch
    ]
    return found


def random_table(rng: Random, depth: int = 3) -> dict[str, dict[str, float]]:
    """Up to four steps a node, which end at different depths."""
    table: dict[str, dict[str, float]] = {}

    def fill(beginning: str, left: int) -> None:
        steps = rng.sample(["a;", "bb;", "c;", "dd;"], rng.randint(1, 4))
        ends = [left == 0 or rng.random() < 0.2 for _ in steps]
        names = [step[:-1] + "$" if end else step for step, end in zip(steps, ends, strict=True)]
        weights = [rng.random() + 0.1 for _ in names]
        table[beginning] = {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
        for name, end in zip(names, ends, strict=True):
            if not end:
                fill(beginning + name, left - 1)

    fill("", depth)
    return table


def child(parent: Node, text: str, probability: float, visits: int, total: float, *, closed: bool = False) -> Node:
    node = parent._child(text, tuple(map(ord, text)), (math.log(probability),), "step")
    node.visits, node.total, node.is_closed = visits, total, closed
    parent.visits += visits
    return node


def test_selection_is_puct_worked_out_by_hand() -> None:
    # N(s) = 9, c(s) = ln((9 + 19652 + 1) / 19652) + 1.25 = 1.250509, sqrt(9) = 3, priors .5, .3, .2 of one token each:
    # a  4/5 + 1.250509 x .5 x 3 / (1 + 5) = .8    + .312627 = 1.112627
    # b  2/3 + 1.250509 x .3 x 3 / (1 + 3) = .6667 + .281364 =  .948031
    # c  0/1 + 1.250509 x .2 x 3 / (1 + 1) =  0    + .375153 =  .375153
    strategy = MCTS(budget=Budget(tokens=1), boundary=";", exploration=1.25, width=3.0, widening=0.0)
    root = Node()
    a, b, c = (child(root, *row) for row in (("a", 0.5, 5, 4.0), ("b", 0.3, 3, 2.0), ("c", 0.2, 1, 0.0)))
    assert strategy._select(root) is a
    a.is_closed = True
    assert strategy._select(root) is b
    # c: 1.250509 is c / P = 1 each; at c = 8 exploration decides: a .8 + 2.000127, b .6667 + 1.800114, c 2.400153
    a.is_closed = False
    assert MCTS(budget=Budget(tokens=1), boundary=";", exploration=8.0, width=3.0, widening=0.0)._select(root) is a
    b.total = c.total = 0.0
    a.total = 0.0  # a 2.000127, b 1.800114, c 2.400153
    assert MCTS(budget=Budget(tokens=1), boundary=";", exploration=8.0, width=3.0, widening=0.0)._select(root) is c


def test_the_sequence_of_visits_is_the_one_worked_out_by_hand() -> None:
    # First steps a; with probability .6 and b; with .4, of two tokens each: P(a) = sqrt(.6) / (sqrt(.6) + sqrt(.4)) =
    # .550510, P(b) = .449490. What begins with a is worth .4, with b .6, whatever follows. c(s) grows from 1.250153.
    #  N  a: .4 + c P(a) sqrt(N) / (1 + N(a))  b: .6 + c P(b) sqrt(N) / (1 + N(b))  goes to
    #  2  .8866                                .9973                                b
    #  3  .9960                                .9244                                a
    #  4  .8589                                .9747                                b
    #  5  .9130                                .9142                                b
    #  6  .9620                                .8753                                a
    #  7  .8553                                .8974                                b
    #  8  .8868                                .8650                                a
    #  9  .8131                                .8810                                b
    table: Table = {"": {"a;": 0.6, "b;": 0.4}} | {step: {f"{n}$": 0.1 for n in range(10)} for step in ("a;", "b;")}
    order: list[str] = []

    def worth(text: str) -> float:
        if not text.endswith(";"):
            order.append(text[0])
        return 0.4 if text[0] == "a" else 0.6

    strategy = MCTS(budget=Budget(nodes=12), boundary=";", width=2.0, widening=0.0, enough=0)
    found = run(strategy, table, worth, Task(prompt="p", seed=3, max_new_tokens=40))
    assert "".join(order) == "abbabbabab"
    assert found.root is not None
    assert {step.text: step.visits for step in found.root.children.values()} == {"a;": 4, "b;": 6}


def test_the_prior_is_the_length_normalised_likelihood() -> None:
    strategy = MCTS(budget=Budget(tokens=1), boundary=";", width=2.0, widening=0.0)
    root = Node()
    long = root._child("aaaa", (1, 1, 1, 1), (math.log(0.9),) * 4, "step")
    short = root._child("b", (2,), (math.log(0.8),), "step")
    long.visits = short.visits = 1
    root.visits = 2
    assert long.likelihood == pytest.approx(0.9)
    assert strategy._select(root) is long


@pytest.mark.parametrize(
    ("visits", "num_children", "widens"), [(1, 1, False), (4, 1, True), (4, 2, False), (9, 2, True)]
)
def test_a_node_widens_with_the_root_of_its_visits(visits: int, num_children: int, widens: bool) -> None:
    root = Node()
    for index in range(num_children):
        child(root, "abc"[index], 0.1, 0, 0.0)
    root.visits = visits
    assert MCTS(budget=Budget(tokens=1), boundary=";", width=1.0, widening=0.5)._may_widen(root) is widens


def test_steps_too_unlikely_to_count_can_still_be_selected() -> None:
    root = Node(visits=1)
    step = root._child("a", (1,), (-800.0,), "step")
    assert MCTS(budget=Budget(tokens=1), boundary=";", widening=0.0)._select(root) is step


def test_a_node_of_which_all_is_seen_does_not_widen() -> None:
    root = Node(visits=100)
    child(root, "a", 0.99, 0, 0.0)
    assert not MCTS(budget=Budget(tokens=1), boundary=";", width=5.0)._may_widen(root)


class Slow:
    """The same search, written from the book with texts and dictionaries: no nodes, no generator, no driver."""

    def __init__(self, strategy: MCTS, policy: TablePolicy, worth: Callable[[str], float]) -> None:
        self.s, self.policy, self.worth = strategy, policy, worth
        self.visits: dict[str, int] = {"": 0}
        self.total: dict[str, float] = {"": 0.0}
        self.steps: dict[str, list[str]] = {"": []}
        self.logprobs: dict[str, list[float]] = {}
        self.ended: set[str] = set()
        self.dead: set[str] = set()

    def closed(self, text: str) -> bool:
        if text in self.ended | self.dead:
            return True
        kids = self.steps[text]
        return bool(kids) and self.unseen(text) <= 0.02 and all(self.closed(text + kid) for kid in kids)

    def unseen(self, text: str) -> float:
        return 1 - sum(math.exp(sum(self.logprobs[text + kid])) for kid in self.steps[text])

    def known(self, text: str, most: int) -> tuple[Known, ...]:
        if self.unseen(text) <= 0.02:
            return ()
        kids = [kid for kid in self.steps[text] if kid[-1] == "$" or (kid[-1] == ";" and len(text + kid) < most)]
        return tuple(Known(tuple(map(ord, kid)), tuple(self.logprobs[text + kid])) for kid in kids)

    def prior(self, text: str, kid: str) -> float:
        def mean(kid: str) -> float:
            return math.exp(sum(self.logprobs[text + kid]) / len(self.logprobs[text + kid]))

        return mean(kid) / sum(mean(other) for other in self.steps[text])

    def select(self) -> str:
        text = ""
        while True:
            kids, n = self.steps[text], self.visits[text]
            if len(kids) < self.s.width * max(1, n) ** self.s.widening and self.unseen(text) > 0.02:
                return text
            open_kids = [kid for kid in kids if not self.closed(text + kid)]
            if not open_kids:
                return text
            scale = math.log((n + 19652 + 1) / 19652) + self.s.exploration
            scores = [
                self.total[text + kid] / self.visits[text + kid]
                + scale * self.prior(text, kid) * math.sqrt(n) / (1 + self.visits[text + kid])
                for kid in open_kids
            ]
            text += open_kids[scores.index(max(scores))]

    def run(self, task: Task) -> dict[str, tuple[int, float]]:
        spent = number = right = 0
        while not self.closed("") and not (self.s.enough and right >= self.s.enough):
            text, value, path = self.select(), -1.0, [""]
            path += [text[: index + 1] for index in range(len(text)) if text[index] == ";"]
            while value < 0 or (self.s.rolls_out and not self.closed(text)):
                limit = min(task.max_new_tokens - len(text), self.s.budget.tokens - spent)
                if limit == 0:
                    return self.tree()
                request = Request(
                    prompt=task.prompt,
                    prefix=tuple(map(ord, text)),
                    seed=task.seed + number,
                    temperature=self.s.temperature,
                    max_new_tokens=limit,
                    boundary=";",
                    max_steps=1 if self.s.is_stepwise or not self.s.rolls_out else 0,
                    known=self.known(text, task.max_new_tokens),
                )
                completion = self.policy.answer(request)
                spent, first = spent + len(completion.token_ids), 0
                for piece in completion.pieces:
                    raw = "".join(map(chr, completion.token_ids[first : first + piece.num_tokens]))
                    is_new = raw not in self.steps.setdefault(text, [])
                    if is_new:
                        self.steps[text].append(raw)
                        self.visits[text + raw], self.total[text + raw] = 0, 0.0
                        self.logprobs[text + raw] = completion.logprobs[first : first + piece.num_tokens]
                    text, first = text + raw, first + piece.num_tokens
                    self.steps.setdefault(text, [])
                    path.append(text)
                if (is_new and completion.stop_reason != "step") or len(text) >= task.max_new_tokens:
                    self.ended.add(text)
                value = self.worth(text.rstrip("$"))
                if value == 0:
                    self.dead.add(text)
            right += value == 1.0 and self.visits[text] == 0 and text in self.ended
            if self.visits[text]:
                value = self.total[text] / self.visits[text]
            for step in path:
                self.visits[step] += 1
                self.total[step] += value
            number += 1
        return self.tree()

    def tree(self) -> dict[str, tuple[int, float]]:
        return {text: (self.visits[text], round(self.total[text], 6)) for text in self.visits}


def grown(found: Found) -> dict[str, tuple[int, float]]:
    assert found.root
    return {"".join(map(chr, node.prefix)): (node.visits, round(node.total, 6)) for node in found.root.walk()}


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(("rolls_out", "is_stepwise"), [(True, True), (True, False), (False, True)])
def test_a_slow_implementation_agrees(seed: int, rolls_out: bool, is_stepwise: bool) -> None:
    rng = Random(seed)
    table = random_table(rng)
    strategy = MCTS(
        budget=Budget(tokens=rng.randint(20, 200)),
        boundary=";",
        exploration=rng.choice([0.2, 1.25, 4.0]),
        width=rng.choice([1.0, 2.0]),
        widening=rng.choice([0.0, 0.3, 0.5, 1.0]),
        rolls_out=rolls_out,
        is_stepwise=is_stepwise,
        enough=rng.choice([0, 0, 1, 3]),
    )
    worth = Random(seed).choice([lambda text: text.count("a") / 8, lambda text: 0.3 + 0.7 * (text.count("d") == 4)])
    task = Task(prompt="p", seed=seed, max_new_tokens=rng.choice([6, 40]))
    expected = Slow(strategy, TablePolicy(table), worth).run(task)
    assert grown(run(strategy, table, worth, task)) == expected


def test_a_rollout_step_by_step_is_the_rollout_in_one_go() -> None:
    table = random_table(Random(3))

    def attempts(is_stepwise: bool) -> list[str]:
        strategy = MCTS(budget=Budget(tokens=60), boundary=";", is_stepwise=is_stepwise)
        return [attempt.text for attempt in run(strategy, table, lambda text: 0.5).attempts]

    assert len(attempts(True)) > 4
    assert attempts(True)[:-1] == attempts(False)[: len(attempts(True)) - 1]


def test_nothing_is_spent_below_a_step_of_which_nothing_can_come() -> None:
    table = random_table(Random(3))
    dead = next(step for step in table[""] if step.endswith(";"))
    found = run(
        MCTS(budget=Budget(tokens=300), boundary=";"), table, lambda text: 0.0 if text.startswith(dead) else 0.5
    )
    assert found.root is not None
    (step,) = (child for child in found.root.children.values() if child.text == dead)
    assert step.draws and not step.children and step.is_closed
    assert all(not attempt.text.startswith(dead) for attempt in found.attempts)
