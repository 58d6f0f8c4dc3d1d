"""Beams by hand, with a policy that is a table."""

from collections.abc import Callable

import pytest

from models.policy.protocol import Completion
from models.search.beam import Beam
from models.search.budget import Budget
from models.search.driver import drive
from models.search.protocol import Found, Task
from tests.models.search.scripted import Table, TablePolicy

WIDE: Table = {
    "": {"a;": 0.25, "b;": 0.25, "c;": 0.25, "d;": 0.25},
    **{step: {f"{step[0]}{last}$": 0.25 for last in "1234"} for step in ("a;", "b;", "c;", "d;")},
}


class Worth:
    reads_gold = False

    def __init__(self, worth: Callable[[str], float]) -> None:
        self.worth = worth
        self.asked: list[list[str]] = []

    def values(self, asked: list[tuple[int, Completion]]) -> list[float]:
        self.asked.append([answer.text for _, answer in asked])
        return [self.worth(answer.text) for _, answer in asked]


def run(strategy: Beam, worth: Callable[[str], float], table: Table = WIDE, seed: int = 1) -> tuple[Found, Worth]:
    guide = Worth(worth)
    task = Task(prompt="p", seed=seed, max_new_tokens=40)
    ((_, found),) = [pair for batch in drive([(0, strategy.search(task))], TablePolicy(table), guide) for pair in batch]
    return found, guide


def test_a_beam_keeps_the_most_valued_steps_of_all() -> None:
    # 3 beams x 4: twelve first steps, of which b, c and d are worth most; twelve second steps, none of them after a.
    found, guide = run(
        Beam(budget=Budget(nodes=24), boundary=";", width=3, expansion=4), lambda text: ord(text[0]) / 200
    )
    assert set(guide.asked[0]) == {"a;", "b;", "c;", "d;"} and len(guide.asked[0]) == 4
    assert {text[:2] for text in guide.asked[1]} == {"b;", "c;", "d;"}
    assert found.attempts[0].text.startswith("d;")
    assert [leaf.value for leaf in found.leaves] == sorted((leaf.value for leaf in found.leaves), reverse=True)


def test_attempts_know_their_prompt_also_where_the_budget_ended_the_search() -> None:
    found, _ = run(Beam(budget=Budget(nodes=24), boundary=";", width=3, expansion=4), lambda text: 0.0)
    assert {attempt.prompt_tokens for attempt in found.attempts} == {3}


def test_diverse_beams_keep_a_subtree_each() -> None:
    found, guide = run(
        Beam(budget=Budget(nodes=16), boundary=";", width=2, expansion=4, is_diverse=True),
        lambda text: ord(text[0]) / 200,
    )
    first = list(guide.asked[0])
    groups = [first[0::2], first[1::2]]  # as they were found, dealt out in turn
    assert {text[:2] for text in guide.asked[1]} == {max(group) for group in groups}
    assert found.root is not None


def test_what_budget_is_left_begins_new_beams_in_the_same_tree() -> None:
    found, guide = run(Beam(budget=Budget(tokens=400), boundary=";", width=1, expansion=2), lambda text: 0.1)
    assert len(guide.asked) > 4
    assert found.root is not None and len(found.root.children) > 2
    assert found.num_tokens <= 400


@pytest.mark.parametrize("is_diverse", [False, True])
def test_enough_right_answers_end_it(is_diverse: bool) -> None:
    strategy = Beam(budget=Budget(tokens=4000), boundary=";", is_diverse=is_diverse)
    found, _ = run(strategy, lambda text: float(len(text) > 2))
    assert found.num_tokens < 200 and found.attempts[0].text


def test_a_worthless_step_is_gone_no_further() -> None:
    found, guide = run(
        Beam(budget=Budget(nodes=24), boundary=";", width=3, expansion=4), lambda text: float(text[0] != "d") / 2
    )
    assert "d;" in guide.asked[0]
    assert not any(text.startswith("d;") and len(text) > 2 for asked in guide.asked for text in asked)
    assert not any(leaf.text.startswith("d") for leaf in found.leaves)


def test_a_step_is_worth_the_mean_of_its_rollouts() -> None:
    # The guide prefers d at the first step, but only what comes of a ends well.
    strategy = Beam(budget=Budget(nodes=200), boundary=";", width=1, expansion=4, rollouts=3)
    found, guide = run(strategy, lambda text: (0.9 if text[0] == "a" else 0.1) if len(text) > 2 else ord(text[0]) / 200)
    assert {"a;", "d;"} <= set(guide.asked[0]) and all(len(text) > 2 for text in guide.asked[1])
    assert {text[:2] for text in guide.asked[2]} == {"a;"}
    assert found.attempts[0].text.startswith("a")


def test_rollouts_keep_the_budget() -> None:
    for tokens in range(1, 60):
        found, _ = run(
            Beam(budget=Budget(tokens=tokens), boundary=";", width=2, expansion=2, rollouts=2, enough=0),
            lambda text: 0.3,
        )
        assert found.num_tokens <= tokens


def test_a_short_answer_is_not_cut_off_for_a_long_sibling() -> None:
    long, short = "a" * 29 + ";", "b;"
    table = {"": {long: 0.5, short: 0.5}, long: {"c" * 30 + "$": 1.0}, short: {"d" * 20 + "$": 1.0}}
    for seed in range(6):
        found, _ = run(
            Beam(budget=Budget(tokens=2000), boundary=";", width=2, expansion=2),
            lambda text: 1.0 if text == "b;" + "d" * 20 else 0.2,
            table,
            seed,
        )
        assert found.attempts[0].text == "b;" + "d" * 20


@pytest.mark.parametrize("tokens", [50, 60, 100])
def test_a_small_budget_is_spent_on_whole_steps(tokens: int) -> None:
    step = "abcdefghijk"
    table = {"": {step + ";": 1.0}, step + ";": {step + "$": 1.0}}
    strategy = Beam(budget=Budget(tokens=tokens), boundary=";", width=1, expansion=2, enough=0)
    found, _ = run(strategy, lambda text: 0.3, table)
    assert found.attempts[0].text == f"{step};{step}" and found.attempts[0].stop_reason == "end"


def test_rollouts_alone_are_backed_up_to_a_step_that_has_some() -> None:
    strategy = Beam(budget=Budget(nodes=4000), boundary=";", width=1, expansion=2, rollouts=4)
    found, _ = run(strategy, lambda text: 0.5 if text.endswith(";") else 0.1)
    assert found.root is not None
    assert {round(step.value, 6) for step in found.root.children.values() if step.visits} == {0.1}


def test_labels_name_width_and_budget() -> None:
    assert Beam(budget=Budget(tokens=600), boundary=";").label == "beam(4x4, 600 tokens)"
    diverse = Beam(budget=Budget(nodes=9), boundary=";", width=2, rollouts=3, is_diverse=True)
    assert diverse.label == "dvts(2x4, 3 rollouts, 9 nodes)"
