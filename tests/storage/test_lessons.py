"""What preferences and policy gradients learn from, on a tree small enough to check by hand."""

from typing import Any

import polars as pl
import pytest

from storage.lake import Lake
from storage.lessons import Where, attempts, pairs
from storage.warehouse import Warehouse

NEWEST = Where(line="main", round=3, window=1, longest=9)
ANSWERS = {"t1": ([1, 2, 3], True), "t2": ([1, 2, 4], True), "t3": ([1, 2, 5], False), "t4": ([6, 7], False)}
PLACE = {"line": "main", "run_id": "r", "round": 3, "problem_id": "p", "strategy": "mcts"}


@pytest.fixture
def tree(lake: Lake, sample: Any) -> Lake:
    """Two right and two wrong answers:  a; x (t1)  a; y (t2)  a; z (t3)  b; w (t4)."""

    def step(step_id: str, parent_id: str, depth: int, text: str, length: int, ends: int, right: int, t: str) -> Any:
        is_end = depth == 2
        return sample(
            "steps",
            step_id=step_id,
            parent_id=parent_id,
            depth=depth,
            text=text,
            length=length,
            num_ends=ends,
            num_right=right,
            trajectory_id=t,
            rewards='{"outcome": 1.0}' if is_end else "{}",
            **PLACE,
        )

    lake.publish("problems", "p", [sample("problems", problem_id="p", split="train", prompt="p>")])
    lake.publish("trajectories", "t", [trajectory(sample, name, *answer) for name, answer in ANSWERS.items()])
    steps = [
        step("root", "", 0, "", 0, 4, 2, "t1"),
        step("a", "root", 1, "aaaa;", 2, 3, 2, "t1"),
        step("x", "a", 2, "x", 1, 1, 1, "t1"),
        step("y", "a", 2, "y", 1, 1, 1, "t2"),
        step("z", "a", 2, "z", 1, 1, 0, "t3"),
        step("b", "root", 1, "bbbb;", 1, 1, 0, "t4"),
        step("w", "b", 2, "w", 1, 1, 0, "t4"),
    ]
    lake.publish("steps", "t", steps)
    return lake


def trajectory(sample: Any, name: str, token_ids: list[int], solved: bool, **fields: Any) -> Any:
    usual = {
        "text": f"answer {name * 4}",
        "text_digest": name,
        "checkpoint_id": "c3",
        "stop_reason": "end",
        "temperature": 0.7,
    }
    return sample(
        "trajectories",
        trajectory_id=name,
        token_ids=token_ids,
        logprobs=[-0.5] * len(token_ids),
        solved=solved,
        **PLACE | usual | fields,
    )


def sides(frame: pl.DataFrame, kind: str) -> list[tuple[Any, ...]]:
    columns = ("chosen_id", "rejected_id", "prefix", "prefix_tokens", "chosen_tokens", "rejected_tokens")
    return frame.filter(pl.col("kind") == kind).select(columns).rows()


def make_pairs(lake: Lake, where: Where = NEWEST, **changes: Any) -> pl.DataFrame:
    return pairs(Warehouse(lake.home), where, **{"margin": 0.5, "max_pairs": 4} | changes)


def test_of_siblings_the_best_that_leads_to_a_right_end_is_preferred_to_the_worst_that_does_not(tree: Lake) -> None:
    made = make_pairs(tree)
    assert sides(made, "steps") == [
        ("t1", "t3", "aaaa;", [1, 2], [3], [5]),
        ("t1", "t4", "", [], [1, 2], [6]),
    ]
    assert made.filter(pl.col("kind") == "steps")["margin"].to_list() == pytest.approx([1.0, 2 / 3])
    assert set(made["prompt"]) == {"p>"}


def test_steps_that_hardly_differ_in_worth_are_no_pair(tree: Lake) -> None:
    assert len(sides(make_pairs(tree, margin=0.9), "steps")) == 1


def test_a_problem_gives_so_many_pairs_of_a_kind_the_clearest_first(tree: Lake) -> None:
    made = make_pairs(tree, max_pairs=1)
    assert [len(sides(made, kind)) for kind in ("steps", "answers")] == [1, 1]
    assert sides(made, "steps")[0][2] == "aaaa;"


def test_whole_answers_are_paired_right_with_wrong_each_once(tree: Lake) -> None:
    whole = sides(make_pairs(tree), "answers")
    assert len(whole) == 2
    assert {row[0] for row in whole} == {"t1", "t2"} and {row[1] for row in whole} == {"t3", "t4"}
    for chosen_id, rejected_id, prefix, prefix_tokens, chosen, rejected in whole:
        assert (prefix, prefix_tokens) == ("", [])
        assert (chosen, rejected) == (ANSWERS[chosen_id][0], ANSWERS[rejected_id][0])


def test_answers_that_are_nearly_equal_or_the_same_text_are_left_out(lake: Lake, sample: Any) -> None:
    lake.publish("problems", "p", [sample("problems", problem_id="p", split="train", prompt="p>")])
    rows = [
        trajectory(sample, "t1", [1], True, text="a long answer that is right 1", text_digest="one"),
        trajectory(sample, "t2", [2], False, text="a long answer that is right 2", text_digest="two"),
    ]
    lake.publish("trajectories", "t", rows)
    assert make_pairs(lake).is_empty()


def test_attempts_come_with_what_was_found_below_each_step(tree: Lake) -> None:
    rows = {row["trajectory_id"]: row for row in attempts(Warehouse(tree.home), NEWEST).to_dicts()}
    assert set(rows) == set(ANSWERS) and len({row["attempts_at"] for row in rows.values()}) == 1
    assert rows["t1"]["step_values"] == pytest.approx([0.5, 2 / 3, 1.0]) and rows["t1"]["lengths"] == [2, 1]
    assert rows["t4"]["step_values"] == pytest.approx([0.5, 0.0, 0.0]) and rows["t4"]["lengths"] == [1, 1]
    assert (rows["t1"]["prompt"], rows["t1"]["logprobs"], rows["t1"]["temperature"]) == ("p>", [-0.5] * 3, 0.7)


def test_attempts_without_a_tree_have_no_steps(lake: Lake, sample: Any) -> None:
    lake.publish("problems", "p", [sample("problems", problem_id="p", split="train", prompt="p>")])
    lake.publish("trajectories", "t", [trajectory(sample, name, [1], name == "t1") for name in ("t1", "t2")])
    rows = attempts(Warehouse(lake.home), NEWEST)
    assert rows["step_values"].to_list() == rows["lengths"].to_list() == [None, None]


def test_nothing_is_learnt_from_attempts_that_are_all_alike(lake: Lake, sample: Any) -> None:
    problems = [sample("problems", problem_id=name, split="train", prompt=name) for name in ("p", "q")]
    lake.publish("problems", "p", problems)
    right = [trajectory(sample, f"p{i}", [1], True) for i in range(2)]
    wrong = [trajectory(sample, f"q{i}", [1], False, problem_id="q") for i in range(2)]
    lake.publish("trajectories", "t", [*right, *wrong])
    assert attempts(Warehouse(lake.home), NEWEST).is_empty() and make_pairs(lake).is_empty()


def test_an_attempt_that_fills_the_models_context_is_wrong(tree: Lake, sample: Any) -> None:
    place = {"problem_id": "q", "strategy": "best_of_n(2)"}
    full = trajectory(sample, "full", [1, 2], False, stop_reason="length", num_tokens=2, **place)
    right = trajectory(sample, "right", [1, 3], True, **place)
    tree.publish("problems", "q", [sample("problems", problem_id="q", split="train", prompt="q>")])
    tree.publish("trajectories", "more", [full, right])
    assert {"full", "right"} <= set(attempts(Warehouse(tree.home), NEWEST)["trajectory_id"])
    assert ("right", "full") in [row[:2] for row in sides(make_pairs(tree), "answers")]


def test_answers_that_a_budget_cut_off_are_neither_right_nor_wrong(tree: Lake, sample: Any) -> None:
    cut = trajectory(sample, "cut", [1, 2], False, stop_reason="length", num_tokens=2)
    too_long = trajectory(sample, "long", [8] * 9, False, stop_reason="length", num_tokens=9)
    tree.publish("trajectories", "more", [cut, too_long])
    learnt = set(attempts(Warehouse(tree.home), NEWEST)["trajectory_id"])
    assert learnt == {*ANSWERS, "long"}
    assert {row[1] for row in sides(make_pairs(tree), "answers")} == {"t3", "t4", "long"}


def test_attempts_of_two_policies_are_not_compared(tree: Lake, sample: Any) -> None:
    tree.publish("trajectories", "later", [trajectory(sample, "later", [9], True, checkpoint_id="k@1")])
    assert set(attempts(Warehouse(tree.home), NEWEST)["trajectory_id"]) == set(ANSWERS)


def test_older_rounds_other_lines_and_reserved_problems_are_left_out(tree: Lake, sample: Any) -> None:
    others = [
        trajectory(sample, "old right", [1], True, round=2),
        trajectory(sample, "old wrong", [2], False, round=2),
        trajectory(sample, "other right", [1], True, line="other"),
        trajectory(sample, "other wrong", [2], False, line="other"),
        trajectory(sample, "reserved right", [1], True, problem_id="b"),
        trajectory(sample, "reserved wrong", [2], False, problem_id="b"),
    ]
    tree.publish("problems", "b", [sample("problems", problem_id="b", split="benchmark", prompt="b>")])
    tree.publish("trajectories", "others", others)
    newest = attempts(Warehouse(tree.home), NEWEST)["trajectory_id"].to_list()
    both = attempts(Warehouse(tree.home), Where(line="main", round=3, window=2, longest=9))["trajectory_id"].to_list()
    assert set(newest) == set(ANSWERS) and set(both) == {*ANSWERS, "old right", "old wrong"}
    assert len(sides(make_pairs(tree, Where(line="main", round=3, window=2, longest=9)), "answers")) == 3


def test_a_retrains_picks_take_the_place_of_the_newest_rounds(tree: Lake, sample: Any) -> None:
    picks = [sample("picks", selection_id="s", trajectory_id=name) for name in ("t1", "t4")]
    tree.publish("picks", "s", picks)
    where = Where(line="main", round=9, window=1, longest=9, selection_id="s")
    assert attempts(Warehouse(tree.home), where)["trajectory_id"].to_list() == ["t1", "t4"]
    assert [row[:2] for row in sides(make_pairs(tree, where), "answers")] == [("t1", "t4")]
