"""The game: legal moves, walks, what is reachable, chance and brute force."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.countdown import (
    CountdownProblems,
    Move,
    apply,
    brute_force,
    draw_numbers,
    is_for_demonstrations,
    legal_moves,
    parse_game,
    random_end,
    random_walk,
    reachable,
    read_game,
    uniform_play,
)
from storage.records import Problem
from storage.sources.countdown import CountdownMaker

NUMBERS = st.lists(st.integers(1, 30), min_size=2, max_size=4)


def problem(text: str) -> Problem:
    return CountdownMaker(CountdownProblems()).parse(text)


@pytest.mark.parametrize(
    ("left", "operator", "right", "result"),
    [
        (4, "+", 7, 11),
        (4, "*", 7, 28),
        (7, "-", 4, 3),
        (4, "-", 4, 0),
        (4, "-", 7, None),
        (8, "/", 4, 2),
        (0, "/", 4, 0),
        (7, "/", 4, None),
        (7, "/", 0, None),
    ],
)
def test_moves_stay_within_whole_numbers(left: int, operator: str, right: int, result: int | None) -> None:
    assert apply(left, operator, right) == result


def test_every_legal_move_of_a_small_state() -> None:
    assert legal_moves((6, 3, 5)) == [
        Move(6, "+", 3, 9, (5,)),
        Move(6, "*", 3, 18, (5,)),
        Move(6, "-", 3, 3, (5,)),
        Move(6, "/", 3, 2, (5,)),
        Move(6, "+", 5, 11, (3,)),
        Move(6, "*", 5, 30, (3,)),
        Move(6, "-", 5, 1, (3,)),
        Move(3, "+", 5, 8, (6,)),
        Move(3, "*", 5, 15, (6,)),
        Move(5, "-", 3, 2, (6,)),
    ]


def test_a_move_is_written_with_what_is_left() -> None:
    assert Move(26, "-", 4, 22, (7,)).write() == "26-4=22,7;"
    assert Move(22, "-", 7, 15, ()).write() == "22-7=15;"


@given(numbers=NUMBERS, seed=st.integers())
def test_a_walk_takes_legal_moves_to_a_reachable_end(numbers: list[int], seed: int) -> None:
    state = tuple(numbers)
    for move in random_walk(numbers, Random(seed)):
        assert move in legal_moves(state)
        state = tuple(sorted((*move.rest, move.result)))
    assert len(state) == 1
    assert state[0] in reachable(tuple(sorted(numbers)), {})


@given(numbers=NUMBERS, seed=st.integers())
def test_a_quick_end_is_reachable_too(numbers: list[int], seed: int) -> None:
    assert random_end(numbers, Random(seed)) in reachable(tuple(sorted(numbers)), {})


def test_what_is_reachable_from_two_numbers() -> None:
    assert reachable((3, 6), {}) == {9, 18, 3, 2}


def test_walks_find_everything_reachable() -> None:
    rng = Random(0)
    assert {random_end((2, 3, 5), rng) for _ in range(5_000)} == reachable((2, 3, 5), {})


def test_every_legal_move_is_as_likely() -> None:
    rng = Random(0)
    ends = [random_end((6, 3), rng) for _ in range(8_000)]
    assert {end: ends.count(end) / len(ends) for end in set(ends)} == pytest.approx(
        {9: 0.25, 18: 0.25, 3: 0.25, 2: 0.25}, abs=0.02
    )


def test_chance_counts_the_ends_among_the_targets_alone() -> None:
    assert uniform_play(problem("3 6>18"), range(18, 19)) == 1.0
    assert uniform_play(problem("3 6>18"), range(0, 100), num_plays=4_000) == pytest.approx(0.25, abs=0.03)
    assert uniform_play(problem("3 6>50"), range(40, 60)) == 0.0


def test_chance_is_the_same_every_time() -> None:
    assert uniform_play(problem("4 26 7>15"), range(10, 101)) == uniform_play(problem("4 26 7>15"), range(10, 101))


def test_brute_force_tells_how_many_walks_it_took() -> None:
    assert brute_force(problem("3 6>9")) == (True, 1)
    assert brute_force(problem("3 6>2")) == (True, 4)
    assert brute_force(problem("3 6>50")) == (False, 4)
    assert brute_force(problem("4 26 7>15"), max_walks=3) == (False, 3)


@given(numbers=st.lists(st.integers(1, 12), min_size=2, max_size=3), target=st.integers(0, 40))
def test_brute_force_solves_what_is_reachable_and_nothing_else(numbers: list[int], target: int) -> None:
    game = problem(f"{' '.join(map(str, numbers))}>{target}")
    assert brute_force(game)[0] == (target in reachable(tuple(sorted(numbers)), {}))


def test_a_fifth_of_the_number_sets_is_for_demonstrations_in_any_order() -> None:
    rng = Random(0)
    drawn = [draw_numbers(CountdownProblems(), rng) for _ in range(5_000)]
    assert sum(map(is_for_demonstrations, drawn)) / len(drawn) == pytest.approx(0.2, abs=0.02)
    assert all(is_for_demonstrations(numbers) == is_for_demonstrations(reversed(numbers)) for numbers in drawn)


@pytest.mark.parametrize("text", ["4 26 7>15;", "4, 26, 7 -> 15", "numbers 4 26 7 target 15"])
def test_a_typed_game_is_read(text: str) -> None:
    assert parse_game(text) == ((4, 26, 7), 15)
    assert read_game(problem(text)) == ((4, 26, 7), 15)


@pytest.mark.parametrize("text", ["", "4>5", "4 26 -7>15", "4 2.5 7>15", "4 26 7>12345678901", "four and two"])
def test_what_is_no_game_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="as 4 26 7>15"):
        parse_game(text)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"numbers": 1}, "2 to 6"),
        ({"numbers": 7}, "2 to 6"),
        ({"max_value": 0}, "at least 1"),
        ({"min_target": 50, "max_target": 40}, "min_target <= max_target"),
        ({"min_target": -1}, "0 <= min_target"),
        ({"prompt": "{numbers}>{goal};"}, "the fields are numbers, question, target"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CountdownProblems(**settings)
