"""Which problems are searched again: weights by hand, draws against the plain formula."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from storage.curriculum import (
    CurriculumSettings,
    choose_problems,
    problems_by_id,
    problems_of,
    stream_position,
)
from storage.lake import Lake
from storage.records import Split
from storage.warehouse import Warehouse


@pytest.fixture
def publish(lake: Lake, sample: Any) -> Any:
    """`publish.problems(p="easy")`, `publish.attempts(round, p="++-")`, a + being a solved one."""

    class Publish:
        def problems(self, split: str = "train", **difficulties: str) -> None:
            rows = [
                sample("problems", problem_id=name, split=split, difficulty=difficulty, position=position)
                for position, (name, difficulty) in enumerate(difficulties.items())
            ]
            lake.publish("problems", f"{split}-{len(lake.keys('problems'))}", rows)

        def attempts(self, round: int, line: str = "main", **outcomes: str) -> None:
            rows = [
                sample("trajectories", line=line, round=round, problem_id=problem, solved=outcome == "+")
                for problem, marks in outcomes.items()
                for outcome in marks
            ]
            lake.publish("trajectories", f"{line}-{round}", rows)

        def promotion(self, round: int, champion: str, previous: str, verdict: str = "promoted") -> None:
            row = sample(
                "promotions", line="main", round=round, champion_id=champion, previous_id=previous, verdict=verdict
            )
            lake.publish("promotions", f"main-{len(lake.keys('promotions'))}", [row])

    return Publish()


def teaches(warehouse: Warehouse, round: int = 9, fade: float = 0.5) -> dict[str, float]:
    drawn = warehouse.named("teaching", line="main", round=round, seed=0, fade=fade, count=999)
    return {row["problem_id"]: pytest.approx(row["teaches"]) for row in drawn.iter_rows(named=True)}


def choose(warehouse: Warehouse, round: int = 9, seed: int = 0, **settings: Any) -> tuple[list[str], int]:
    chosen = choose_problems(warehouse, line="main", round=round, seed=seed, settings=CurriculumSettings(**settings))
    return chosen.known, chosen.num_new


def test_a_problem_teaches_by_its_expected_variance(publish: Any, warehouse: Warehouse) -> None:
    publish.problems(even="", always="", never="")
    publish.attempts(1, even="++--", always="++++", never="----")
    expected = {"even": 3 * 3 / (6 * 7), "always": 5 * 1 / (6 * 7), "never": 1 * 5 / (6 * 7)}
    assert teaches(warehouse) == expected


def test_a_problem_needs_what_a_right_answer_takes_beside_the_mean(publish: Any, warehouse: Warehouse) -> None:
    publish.problems(even="", always="", never="", new="")
    publish.attempts(1, even="++--", always="++++", never="----")
    drawn = warehouse.named("teaching", line="main", round=9, seed=0, fade=0.5, count=999)
    mean = (6 / 3 + 6 / 5 + 6 / 1) / 3
    assert {row["problem_id"]: row["need"] for row in drawn.iter_rows(named=True)} == {
        "even": pytest.approx(2 / mean), "always": pytest.approx(1.2 / mean), "never": pytest.approx(6 / mean),
        "new": None,
    }  # fmt: skip


def test_attempts_fade_with_each_change_of_champion_since(publish: Any, warehouse: Warehouse) -> None:
    publish.problems(a="", b="", c="")
    publish.promotion(0, "c0", "", "initial")
    publish.attempts(1, a="++++")
    publish.promotion(1, "c1", "c0")
    publish.attempts(2, b="++++")
    publish.promotion(2, "c1", "c1", "refused")
    publish.promotion(3, "c0", "c1", "rolled_back")
    publish.attempts(4, c="++++")
    assert teaches(warehouse) == {"a": 2 / (3 * 4), "b": 3 / (4 * 5), "c": 5 / (6 * 7)}
    assert teaches(warehouse, fade=1) == dict.fromkeys("abc", 5 / (6 * 7))


def test_unseen_problems_teach_as_their_difficulty_does(publish: Any, warehouse: Warehouse) -> None:
    publish.problems(seen1="easy", seen2="easy", seen3="hard", new1="easy", new2="unheard of")
    publish.attempts(1, seen1="+-", seen2="++", seen3="--")
    even, sure = 2 * 2 / (4 * 5), 3 * 1 / (4 * 5)
    average = {"new1": (even + sure) / 2, "new2": (even + sure + sure) / 3}
    assert teaches(warehouse) == {"seen1": even, "seen2": sure, "seen3": sure} | average


def test_with_nothing_tried_all_teach_alike(publish: Any, warehouse: Warehouse) -> None:
    publish.problems(a="easy", b="hard")
    assert teaches(warehouse) == {"a": 1, "b": 1}


def test_only_earlier_rounds_of_the_line_count(publish: Any, warehouse: Warehouse) -> None:
    publish.problems(a="")
    publish.attempts(1, a="+-")
    before = teaches(warehouse, round=2)
    publish.attempts(2, a="++++")
    publish.attempts(1, line="other", a="++++")
    publish.promotion(2, "c1", "c0")
    assert teaches(warehouse, round=2) == before


def test_reserved_problems_are_never_chosen(publish: Any, warehouse: Warehouse) -> None:
    publish.problems(a="", b="")
    publish.problems(split="benchmark", b="", c="")
    publish.attempts(1, b="+-", c="+-")
    assert choose(warehouse, problems=10, new_share=0) == (["a"], 9)


def test_new_problems_fill_their_share_and_what_is_missing(publish: Any, warehouse: Warehouse) -> None:
    publish.problems(**{f"p{n}": "" for n in range(6)})
    for problems, new_share, num_known, num_new in [
        (4, 0.5, 2, 2),
        (5, 0.5, 2, 3),
        (20, 0.5, 6, 14),
        (4, 1, 0, 4),
        (4, 0, 4, 0),
    ]:
        known, new = choose(warehouse, problems=problems, new_share=new_share)
        assert (len(known), len(set(known)), new) == (num_known, num_known, num_new)


def test_an_empty_lake_asks_for_new_problems_only(warehouse: Warehouse) -> None:
    assert choose(warehouse, problems=5) == ([], 5)


def test_the_draw_depends_on_seed_and_round_alone(publish: Any, warehouse: Warehouse) -> None:
    publish.problems(**{f"p{n}": "" for n in range(8)})
    settings = {"problems": 3, "new_share": 0}
    assert choose(warehouse, **settings) == (["p0", "p4", "p3"], 0)
    assert choose(warehouse, **settings) == choose(warehouse, **settings)
    others = [choose(warehouse, seed=1, **settings), choose(warehouse, round=8, **settings)]
    assert all(other != choose(warehouse, **settings) for other in others)


def test_problems_are_drawn_by_efraimidis_and_spirakis_keys(publish: Any, warehouse: Warehouse) -> None:
    publish.problems(**{f"p{n}": "" for n in range(30)})
    publish.attempts(1, **{f"p{n}": "+" * n + "-" * 4 for n in range(30)})
    weights = {f"p{n}": (1 + n) * 5 / ((6 + n) * (7 + n)) for n in range(30)}

    def key(problem: str) -> float:
        bits = int(hashlib.md5(f"7|9|{problem}".encode()).hexdigest()[:13], 16)
        return ((bits + 0.5) / 2**52) ** (1 / weights[problem])

    expected = sorted(weights, key=key, reverse=True)
    assert choose(warehouse, seed=7, problems=30, new_share=0) == (expected, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"problems": 0}, "problems is 0; expected at least 1"),
        ({"new_share": 1.5}, r"new_share is 1.5; expected from 0, all known, to 1, all new"),
        ({"fade": -1}, "fade is -1; expected from 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CurriculumSettings(**settings)


def test_problems_are_found_by_id_in_the_order_asked(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    a, b = (sample("problems", problem_id=name, data='{"x": 1}', created_at=noon) for name in "ab")
    lake.publish("problems", "1", [a, b])
    lake.publish("problems", "2", [a])
    assert problems_by_id(warehouse, ["b", "a"]) == [b, a]
    assert problems_by_id(warehouse, []) == []
    with pytest.raises(ValueError, match="1 of 2 problems are not in the lake, the first being 'c'"):
        problems_by_id(warehouse, ["a", "c"])


def test_the_problems_of_a_split_come_in_the_order_of_the_stream(publish: Any, warehouse: Warehouse) -> None:
    publish.problems(c="", a="", b="")
    publish.problems(split="final", d="")
    assert [problem.problem_id for problem in problems_of(warehouse, Split.TRAIN)] == ["c", "a", "b"]
    assert [problem.problem_id for problem in problems_of(warehouse, Split.FINAL)] == ["d"]


def test_the_stream_goes_on_behind_the_last_train_problem(publish: Any, warehouse: Warehouse) -> None:
    publish.problems(split="final", a="", b="", c="")
    assert stream_position(warehouse) is None
    publish.problems(d="", e="")
    assert stream_position(warehouse) == 1
