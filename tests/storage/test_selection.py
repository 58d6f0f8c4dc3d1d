"""The filter's decisions, whole, on lakes small enough to check by hand."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from storage.lake import Lake
from storage.records import Selection
from storage.selection import decide, selection_id, training_set
from storage.settings import FilterSettings
from storage.warehouse import Warehouse

Attempt = tuple[Any, ...]
Fill = Callable[..., None]


@pytest.fixture
def fill(lake: Lake, sample: Any) -> Fill:
    """Publishes problems {id: difficulty} and solved attempts {trajectory id: fields}."""

    def publish(problems: dict[str, str], key: str = "a", **attempts: dict[str, Any]) -> None:
        rows = [
            sample("problems", problem_id=problem, split="train", difficulty=difficulty, prompt=f"{problem}>")
            for problem, difficulty in problems.items()
        ]
        lake.publish("problems", key, rows)
        lake.publish("trajectories", key, [attempt(name, **fields) for name, fields in attempts.items()])

    def attempt(name: str, **fields: Any) -> Any:
        usual = {"line": "main", "solved": True, "text_digest": name, "answer": name, "problem_id": "p"}
        return sample("trajectories", trajectory_id=name, **usual | fields)

    return publish


def reasons(warehouse: Warehouse, round: int = 1, **settings: Any) -> dict[str, str]:
    decisions = decide(
        warehouse, line="main", run_id="r", round=round, settings=FilterSettings(**{"max_per_problem": 2} | settings)
    )
    assert all(decision.kept == (decision.reason == "kept") for decision in decisions)
    return {decision.trajectory_id: decision.reason for decision in decisions}


def test_a_decision_is_a_whole_record(fill: Fill, warehouse: Warehouse) -> None:
    fill({"p": ""}, t1={})
    (decision,) = decide(warehouse, line="main", run_id="r", round=1, settings=FilterSettings())
    assert decision == Selection(
        selection_id=selection_id("main", "r", 1, "default"),
        trajectory_id="t1",
        line="main",
        round=1,
        rule="default",
        kept=True,
        reason="kept",
        created_at=decision.created_at,
    )


def test_only_right_answers_to_train_problems_are_kept(
    fill: Fill, lake: Lake, warehouse: Warehouse, sample: Any
) -> None:
    fill(
        {"p": "", "q": ""}, t1={}, t2={"solved": False}, t3={"problem_id": "q"}, t4={"problem_id": "q", "solved": False}
    )
    lake.publish("problems", "reserved", [sample("problems", problem_id="q", split="benchmark")])
    assert reasons(warehouse) == {"t1": "kept", "t2": "wrong", "t3": "reserved", "t4": "reserved"}


@pytest.mark.parametrize("split", ["final", "benchmark", "development"])
def test_every_split_but_train_is_reserved(
    fill: Fill, lake: Lake, warehouse: Warehouse, sample: Any, split: str
) -> None:
    fill({}, t1={})
    lake.publish("problems", "b", [sample("problems", problem_id="p", split=split)] * 2)
    assert reasons(warehouse) == {"t1": "reserved"}


def test_the_first_of_equal_texts_is_kept(fill: Fill, warehouse: Warehouse) -> None:
    same = {"text_digest": "d", "answer": "1"}
    fill(
        {"p": "", "q": ""},
        a={"round": 1, **same},
        b={"round": 0, **same},
        c={"round": 0, "solved": False, **same},
        d={"round": 1, "problem_id": "q", **same},
    )
    assert reasons(warehouse) == {"a": "duplicate", "b": "kept", "c": "wrong", "d": "kept"}


def test_distinct_solutions_come_first(fill: Fill, warehouse: Warehouse) -> None:
    fill({"p": ""}, a={"answer": "1"}, b={"answer": "1"}, c={"answer": "2", "num_tokens": 99, "round": 0})
    assert reasons(warehouse) == {"a": "kept", "b": "over_limit", "c": "kept"}


def test_the_shorter_is_kept_among_those_that_reason_alike(fill: Fill, warehouse: Warehouse) -> None:
    same = {"answer": "1"}
    fill({"p": ""}, a={"num_tokens": 9, **same}, b={"num_tokens": 5, **same}, c={"num_tokens": 7, **same})
    assert reasons(warehouse) == {"a": "over_limit", "b": "kept", "c": "kept"}


def test_long_texts_that_reason_otherwise_do_not_die_out(fill: Fill, warehouse: Warehouse) -> None:
    correcting = {"behaviours": ["self_evaluation", "self_correction"], "num_tokens": 90, "answer": "1"}
    fill(
        {"p": ""},
        a={"num_tokens": 5, "answer": "1"},
        b={"num_tokens": 6, "answer": "1"},
        c={"round": 1, **correcting},
        d={"round": 1, **correcting, "num_tokens": 80, "behaviours": ["self_correction", "self_evaluation"]},
    )
    assert reasons(warehouse) == {"a": "kept", "b": "over_limit", "c": "over_limit", "d": "kept"}


def test_newer_rounds_come_first_among_equals(fill: Fill, warehouse: Warehouse) -> None:
    fill({"p": ""}, a={"round": 1}, b={"round": 3}, c={"round": 2}, d={"round": 3})
    assert reasons(warehouse, round=3) == {"a": "over_limit", "b": "kept", "c": "over_limit", "d": "kept"}


def test_no_difficulty_gives_more_than_its_share(fill: Fill, warehouse: Warehouse) -> None:
    easy = {f"e{n}": "easy" for n in range(9)}
    attempts = {f"t{problem}": {"problem_id": problem} for problem in (*easy, "h")}
    fill(easy | {"h": "hard"}, **attempts)
    decided = reasons(warehouse, balance=1.2)
    assert sorted(decided.values()) == ["kept"] * 7 + ["unbalanced"] * 3
    assert decided["th"] == "kept"
    assert decided == reasons(warehouse, balance=1.2)
    assert set(reasons(warehouse, balance=2).values()) == {"kept"}


def test_of_two_difficulties_one_gives_three_quarters_unless_told_otherwise(fill: Fill, warehouse: Warehouse) -> None:
    easy = {f"e{n}": "easy" for n in range(9)}
    fill(easy | {"h": "hard"}, **{f"t{problem}": {"problem_id": problem} for problem in (*easy, "h")})
    assert sorted(reasons(warehouse).values()) == ["kept"] * 8 + ["unbalanced"] * 2


def test_one_difficulty_needs_no_balance(fill: Fill, warehouse: Warehouse) -> None:
    fill({"p": "easy"}, a={}, b={})
    assert reasons(warehouse, balance=1) == {"a": "kept", "b": "kept"}


def test_only_new_and_changed_decisions_are_given(fill: Fill, lake: Lake, warehouse: Warehouse) -> None:
    settings = FilterSettings(max_per_problem=1)
    fill({"p": ""}, "1", a={"round": 1}, b={"round": 1, "solved": False})
    first = decide(warehouse, line="main", run_id="r", round=1, settings=settings)
    lake.publish("selections", "main-1", first)
    fill({}, "2", c={"round": 2})
    second = decide(warehouse, line="main", run_id="r", round=2, settings=settings)
    lake.publish("selections", "main-2", second)
    fill({}, "3", d={"round": 3, "solved": False})
    assert [(row.trajectory_id, row.reason) for row in first] == [("a", "kept"), ("b", "wrong")]
    assert [(row.trajectory_id, row.reason) for row in second] == [("a", "over_limit"), ("c", "kept")]
    assert reasons(warehouse, round=3, max_per_problem=1) == {"d": "wrong"}


def test_deciding_again_gives_the_same(fill: Fill, lake: Lake, warehouse: Warehouse) -> None:
    fill({"p": ""}, "1", a={"round": 1}, b={"round": 1})
    first = decide(warehouse, line="main", run_id="r", round=1, settings=FilterSettings())
    lake.publish("selections", "main-1", first)
    fill({}, "2", c={"round": 2})
    again = decide(warehouse, line="main", run_id="r", round=1, settings=FilterSettings())
    assert [dataclasses.replace(row, created_at=first[0].created_at) for row in again] == [
        dataclasses.replace(row, created_at=first[0].created_at) for row in first
    ]


def test_a_run_begun_in_the_middle_of_a_round_decides_on_what_is_new_or_changed_alone(
    fill: Fill, lake: Lake, warehouse: Warehouse
) -> None:
    settings = FilterSettings(max_per_problem=1)
    fill({"p": ""}, "left", a={"round": 3, "num_tokens": 5}, b={"round": 3, "solved": False})
    left = decide(warehouse, line="main", run_id="left", round=3, settings=settings)
    lake.publish("selections", "main-3-left", left)
    fill({}, "new", c={"round": 3, "num_tokens": 4, "answer": "a"}, d={"round": 3, "solved": False})
    for _ in range(2):  # the same when it is asked again, as after a stop
        new = decide(warehouse, line="main", run_id="new", round=3, settings=settings)
        lake.publish("selections", "main-3-new", new)
        assert [(row.trajectory_id, row.reason) for row in left] == [("a", "kept"), ("b", "wrong")]
        assert [(row.trajectory_id, row.reason) for row in new] == [("a", "over_limit"), ("c", "kept"), ("d", "wrong")]
    assert {row.selection_id for row in left}.isdisjoint(row.selection_id for row in new)
    assert training_set(warehouse, line="main", round=3)["trajectory_id"].to_list() == ["c"]


def test_other_lines_are_left_alone(fill: Fill, warehouse: Warehouse) -> None:
    fill({"p": ""}, a={}, b={"line": "other"})
    assert reasons(warehouse) == {"a": "kept"}


def test_an_empty_lake_gives_no_decisions(warehouse: Warehouse) -> None:
    assert reasons(warehouse) == {}


def test_the_training_set_is_what_is_kept_of_all_rounds(fill: Fill, lake: Lake, warehouse: Warehouse) -> None:
    fill({"p": ""}, "0", a={"round": 0, "text": "A", "token_ids": [1, 2]}, z={"round": 0, "solved": False})
    lake.publish("selections", "0", decide(warehouse, line="main", run_id="r", round=0, settings=FilterSettings()))
    fill({"p": "", "q": ""}, "2", b={"round": 2, "problem_id": "q", "behaviours": ["self_correction"]})
    lake.publish("selections", "2", decide(warehouse, line="main", run_id="r", round=2, settings=FilterSettings()))
    expected = [
        {
            "trajectory_id": "a", "problem_id": "p", "prompt": "p>", "text": "A", "token_ids": [1, 2], "round": 0,
            "behaviours": [], "share": 0.25, "weight": 1.0, "checkpoint_id": "",
        },
        {
            "trajectory_id": "b", "problem_id": "q", "prompt": "q>", "text": "", "token_ids": [], "round": 2,
            "behaviours": ["self_correction"], "share": 1.0, "weight": 1.0, "checkpoint_id": "",
        },
    ]  # fmt: skip
    assert training_set(warehouse, line="main", round=2, fade=0.5).rows(named=True) == expected
    assert training_set(warehouse, line="main", round=1)["trajectory_id"].to_list() == ["a"]


def test_what_is_written_again_is_as_young_as_what_is_new(fill: Fill, lake: Lake, warehouse: Warehouse) -> None:
    made = [{"a": "one", "b": "another"}, {"c": "one", "d": "a third"}]
    for round, texts in enumerate(made):
        fill({"p": ""}, str(round), **{name: {"round": round, "text_digest": text} for name, text in texts.items()})
        decisions = decide(warehouse, line="main", run_id="r", round=round, settings=FilterSettings())
        lake.publish("selections", str(round), decisions)
    shares = [
        dict(training_set(warehouse, line="main", round=n, fade=0.5)["trajectory_id", "share"].iter_rows())
        for n in (0, 1)
    ]
    assert shares == [{"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 0.5, "d": 1.0}]


def test_a_rule_may_keep_what_is_not_right(fill: Fill, lake: Lake, warehouse: Warehouse) -> None:
    fill({"p": ""}, a={"round": 0, "solved": False})
    [decision] = decide(warehouse, line="main", run_id="r", round=0, settings=FilterSettings())
    lake.publish("selections", "0", [dataclasses.replace(decision, kept=True)])
    assert training_set(warehouse, line="main", round=0)["trajectory_id"].to_list() == ["a"]


def test_no_rule_lets_a_reserved_problem_train(fill: Fill, lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    fill({"p": ""}, a={"round": 0}, b={"round": 0, "problem_id": "q"})
    lake.publish("problems", "q", [sample("problems", problem_id="q", split="benchmark", prompt="q>")])
    decisions = decide(warehouse, line="main", run_id="r", round=0, settings=FilterSettings())
    lake.publish("selections", "0", [dataclasses.replace(decision, kept=True) for decision in decisions])
    assert training_set(warehouse, line="main", round=0)["trajectory_id"].to_list() == ["a"]


def test_what_is_no_longer_kept_no_longer_trains(fill: Fill, lake: Lake, warehouse: Warehouse) -> None:
    settings = FilterSettings(max_per_problem=1)
    for number, name in enumerate("abc"):
        fill({"p": ""}, name, **{name: {"round": number}})
        lake.publish("selections", name, decide(warehouse, line="main", run_id="r", round=number, settings=settings))
    kept = [training_set(warehouse, line="main", round=n)["trajectory_id"].to_list() for n in range(3)]
    assert kept == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"max_per_problem": 0}, "max_per_problem is 0; expected at least 1"), ({"balance": 0.5}, "balance is 0.5")],
)
def test_settings_that_keep_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FilterSettings(**settings)


@pytest.mark.parametrize(("rule", "suggestion"), [("strict", ""), ("defualt", " Did you mean 'default'?")])
def test_a_rule_that_is_not_there_is_refused_before_anything_is_asked(rule: str, suggestion: str) -> None:
    with pytest.raises(ValueError) as refusal:
        FilterSettings(rule=rule)
    assert str(refusal.value) == f"rule is {rule!r}; expected one of storage/sql/filter: default.{suggestion}"


@pytest.mark.parametrize("fade", [0, 1.5])
def test_a_fade_that_is_no_fade_is_refused(warehouse: Warehouse, fade: float) -> None:
    with pytest.raises(ValueError, match="expected above 0, and at most 1"):
        training_set(warehouse, line="main", round=1, fade=fade)
