"""What stands beside an accuracy: on every Countdown game, whichever source made it, and on nothing else."""

import pytest
from reasoning_gym.games.countdown import CountdownConfig

from storage.chance import GYM_TARGETS, Chance, measure_chance, targets_of
from storage.countdown import CountdownProblems
from storage.sources.countdown import CountdownMaker
from storage.sources.gym import GymMaker, GymProblems

GAMES = ["3 6>18", "3 6>2"]
"""Of the ends 9, 18, 3 and 2 each as likely; tried in that order."""


def test_chance_is_measured_on_games_of_our_own() -> None:
    settings = CountdownProblems(numbers=2, min_target=2, max_target=18)
    problems = [CountdownMaker(settings).parse(game) for game in GAMES]
    assert measure_chance(settings, problems) == Chance(uniform_play=pytest.approx(0.25, abs=0.05), brute_force=3.0)


def test_chance_is_measured_on_the_librarys_games_among_their_targets() -> None:
    settings = GymProblems(dataset="countdown", params={"min_target": 2, "max_target": 17})
    problems = [GymMaker(settings).parse(game) for game in GAMES]
    chance = measure_chance(settings, problems)
    assert chance == Chance(uniform_play=pytest.approx(1 / 6, abs=0.05), brute_force=3.0)


def test_the_librarys_targets_are_its_own_where_nothing_is_said() -> None:
    library = CountdownConfig()
    assert {"min_target": library.min_target, "max_target": library.max_target} == GYM_TARGETS
    assert targets_of(GymProblems(dataset="countdown", params={"max_target": 200})) == range(100, 201)


def test_what_is_no_game_has_no_chance() -> None:
    settings = GymProblems(dataset="chain_sum")
    assert measure_chance(settings, [GymMaker(settings).parse("What is 3 + 6?")]) == Chance()
    assert measure_chance(CountdownProblems(), []) == Chance()
