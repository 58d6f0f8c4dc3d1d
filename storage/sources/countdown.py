"""A stream of Countdown problems: random numbers, and the target a random legal walk reached from them.

So every problem has a solution, and none is one that chance could never find.
Number sets of the demonstrations are skipped: no demonstration can hold an answer.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations_with_replacement
from random import Random

from storage.countdown import (
    WALKS_A_DRAW,
    CountdownProblems,
    Memo,
    draw_numbers,
    is_for_demonstrations,
    parse_game,
    random_end,
    reachable,
)
from storage.records import Problem, Split, make_id
from storage.sources.source import Capacity, distinct

PATIENCE = 20_000
"""Draws in a row with nothing new that end the stream; about half a second."""
COUNTING_STATES = 100_000
"""States worth enumerating to count problems: about half a second."""
STATES_A_NUMBER = 12
"""A further number multiplies the states behind a number set by about this much (measured, 2 to 6 numbers)."""

Game = tuple[tuple[int, ...], int]


class CountdownMaker:
    """Makes Countdown problems: `CountdownMaker(CountdownProblems(numbers=3))`."""

    name = "countdown"

    def __init__(self, settings: CountdownProblems) -> None:
        self._settings = settings

    def draws(self) -> Iterator[Problem]:
        """Problems in the stream's order."""
        for position, game in enumerate(distinct(self._games(), canonical, PATIENCE)):
            yield self._problem(game, position)

    def held_out(self) -> None:
        """Benchmark and final come from the one stream."""

    def capacity(self) -> Capacity:
        """Exact where enumeration is cheap, else estimated from a sample of number sets."""
        settings = self._settings
        num_sets = math.comb(settings.max_value + settings.numbers - 1, settings.numbers)
        sample_size = max(4, COUNTING_STATES // STATES_A_NUMBER ** (settings.numbers - 2))
        if num_sets <= sample_size:
            return Capacity(count=sum(self._count(self._all_sets())), exact=True)
        mean = sum(self._count(self._random_sets(sample_size))) / sample_size
        note = f"estimated from {sample_size:,} of {num_sets:,} number sets"
        return Capacity(count=round(mean * num_sets), exact=False, note=note)

    def dry_advice(self) -> str:
        """Numbers make more problems than anything else."""
        settings = self._settings
        targets = f"{settings.min_target} to {settings.max_target}"
        return (
            f"raise max_value ({settings.max_value}) or numbers ({settings.numbers}), or widen the targets ({targets})"
        )

    def parse(self, question: str) -> Problem:
        """A typed problem, its numbers in any order: `4 26 7>15`."""
        return self._problem(parse_game(question), position=0)

    def _games(self) -> Iterator[Game | None]:
        """Endless draws; None where the numbers are the demonstrations' or no walk came into range."""
        rng = Random(f"countdown problems:{self._settings.seed}")
        while True:
            numbers = draw_numbers(self._settings, rng)
            target = None if is_for_demonstrations(numbers) else self._target(numbers, rng)
            yield None if target is None else (numbers, target)

    def _target(self, numbers: Sequence[int], rng: Random) -> int | None:
        """The first end among the targets of a few random walks, if there is one."""
        ends = (random_end(numbers, rng) for _ in range(WALKS_A_DRAW))
        return next((end for end in ends if end in self._settings.targets), None)

    def _problem(self, game: Game, position: int) -> Problem:
        fields = game_fields(*game)
        return Problem(
            problem_id=game_id(game),
            source=self.name,
            split=Split.TRAIN,
            prompt=self._settings.prompt.format_map(fields),
            question=fields["question"],
            data=game_data(*game),
            verifier="countdown",
            difficulty=str(len(game[0])),
            position=position,
        )

    def _all_sets(self) -> Iterator[tuple[int, ...]]:
        return combinations_with_replacement(range(1, self._settings.max_value + 1), self._settings.numbers)

    def _random_sets(self, sample_size: int) -> Iterator[tuple[int, ...]]:
        """Uniform multisets: a sorted choice without repeats from a longer range, each pushed back by its place."""
        rng = Random("countdown capacity")
        longer = range(1, self._settings.max_value + self._settings.numbers)
        for _ in range(sample_size):
            chosen = sorted(rng.sample(longer, self._settings.numbers))
            yield tuple(number - place for place, number in enumerate(chosen))

    def _count(self, number_sets: Iterable[tuple[int, ...]]) -> Iterator[int]:
        """Problems of each number set; none where it is the demonstrations'."""
        memo: Memo = {}
        for numbers in number_sets:
            ends = [] if is_for_demonstrations(numbers) else reachable(numbers, memo)
            yield sum(end in self._settings.targets for end in ends)


def canonical(game: Game) -> tuple[int, ...]:
    """The content that makes two problems the same: sorted numbers, then the target."""
    numbers, target = game
    return (*sorted(numbers), target)


def game_id(game: Game) -> str:
    """The problem's id, the same whichever source makes it."""
    return make_id("problem", "countdown", *canonical(game))


def game_data(numbers: Sequence[int], target: int) -> str:
    """What the Countdown verifier reads."""
    return json.dumps({"numbers": list(numbers), "target": target})


def game_fields(numbers: Sequence[int], target: int) -> dict[str, str]:
    """What a prompt template may show: the numbers in ascending order, so that equal problems have equal prompts."""
    joined = " ".join(map(str, sorted(numbers)))
    return {"numbers": joined, "target": str(target), "question": f"{joined}>{target}"}
