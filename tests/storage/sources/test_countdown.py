"""The stream of Countdown problems."""

from dataclasses import replace
from itertools import islice

import pytest

from storage.countdown import CountdownProblems, is_for_demonstrations, reachable, read_game
from storage.records import Problem
from storage.sources.countdown import CountdownMaker, game_fields, game_id
from storage.sources.source import Capacity, RanDry, Source, Splits

SMALL = CountdownProblems(numbers=2, max_value=6, min_target=1, max_target=30)


def first(num: int, settings: CountdownProblems) -> list[Problem]:
    return list(islice(CountdownMaker(settings).draws(), num))


def ids(problems: list[Problem]) -> list[str]:
    return [problem.problem_id for problem in problems]


def test_a_typed_game_makes_the_whole_row() -> None:
    problem = CountdownMaker(CountdownProblems()).parse("4 26 7>15;")
    assert problem == Problem(
        problem_id=game_id(((4, 7, 26), 15)),
        source="countdown",
        split="train",
        prompt="4 7 26>15;",
        question="4 7 26>15",
        answer="",
        data='{"numbers": [4, 26, 7], "target": 15}',
        verifier="countdown",
        difficulty="3",
        position=0,
        created_at=problem.created_at,
    )


def test_the_order_of_numbers_does_not_make_another_problem_or_prompt() -> None:
    assert game_fields((26, 7, 4), 15) == game_fields((4, 26, 7), 15)
    assert game_id(((4, 26, 7), 15)) == game_id(((26, 7, 4), 15))
    assert game_id(((4, 26, 7), 15)) != game_id(((4, 26, 15), 7))


def test_every_problem_is_solvable_in_range_and_kept_from_demonstrations() -> None:
    settings = CountdownProblems(numbers=4, max_value=20)
    for problem in first(300, settings):
        numbers, target = read_game(problem)
        assert target in settings.targets
        assert target in reachable(tuple(sorted(numbers)), {})
        assert not is_for_demonstrations(numbers)
        assert len(numbers) == 4 and 1 <= min(numbers) <= max(numbers) <= 20


def test_no_problem_comes_twice_and_positions_count_up() -> None:
    problems = first(2_000, CountdownProblems())
    assert len(set(ids(problems))) == 2_000
    assert [problem.position for problem in problems] == list(range(2_000))


def test_a_longer_stream_begins_like_a_shorter_one_and_another_seed_like_neither() -> None:
    assert ids(first(200, CountdownProblems()))[:100] == ids(first(100, CountdownProblems()))
    assert ids(first(100, CountdownProblems())) != ids(first(100, CountdownProblems(seed=1)))


def test_the_prompt_moves_no_problem() -> None:
    worded = CountdownProblems(prompt="Make {target} of {numbers}.")
    assert ids(first(100, worded)) == ids(first(100, CountdownProblems()))
    assert first(1, worded)[0].prompt == "Make 40 of 5 11 24."


@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, numbers=3, max_value=5)])
def test_a_counted_capacity_is_what_the_stream_gives_before_it_runs_dry(settings: CountdownProblems) -> None:
    num_drawn = sum(1 for _ in CountdownMaker(settings).draws())
    assert CountdownMaker(settings).capacity() == Capacity(count=num_drawn, exact=True)


def test_the_default_capacity_is_counted_and_a_large_one_estimated() -> None:
    assert CountdownMaker(CountdownProblems()).capacity() == Capacity(count=26260, exact=True)
    assert (
        CountdownMaker(CountdownProblems(numbers=4)).capacity().describe()
        == "about 1,000,000 problems (estimated from 694 of 40,920 number sets)"
    )


def test_running_dry_is_told_with_the_fix() -> None:
    source = Source(CountdownMaker(SMALL), Splits(benchmark=10, final=10, development=10))
    with pytest.raises(RanDry) as refusal:
        source.draw_new(100, used=())
    assert str(refusal.value) == (
        "countdown has run dry: 100 new problems are asked for and 23 are left of 53 problems. Ask for fewer new ones, "
        "or raise max_value (6) or numbers (2), or widen the targets (1 to 30)."
    )
