"""The Countdown game: reach a target from numbers used once each, by + - * / on whole numbers.

A walk is played by uniform random legal moves until one number is left; nothing
in it looks at a target. What chance solves (`uniform_play`) and what trying
everything costs (`brute_force`) are measured here. A fifth of all number sets,
by a hash of their own, is kept for demonstrations and never makes a problem.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from random import Random
from typing import Annotated, Literal, NamedTuple

from storage.prompt import check_template
from storage.records import Problem

FIELDS = ("numbers", "target", "question")
MAX_NUMBERS = 6
"""More than six numbers cannot be counted, nor brute-forced, in reasonable time."""
WALKS_A_DRAW = 20
"""Walks played from one draw of numbers before others are drawn."""
DEMONSTRATION_SHARE = 5
"""One number set in five belongs to the demonstrations."""

Memo = dict[tuple[int, ...], frozenset[int]]


@dataclass(frozen=True, kw_only=True)
class CountdownProblems:
    """Countdown problems that random legal play can reach: `CountdownProblems(numbers=3, max_value=30)`."""

    kind: Annotated[Literal["countdown"], "Generated Countdown problems."] = "countdown"
    numbers: Annotated[int, "How many numbers a problem gives, 2 to 6."] = 3
    max_value: Annotated[int, "Numbers are drawn from 1 to this."] = 30
    min_target: Annotated[int, "Smallest target."] = 10
    max_target: Annotated[int, "Largest target."] = 100
    prompt: Annotated[str, "Prompt template; fields: numbers, target, question."] = "{numbers}>{target};"
    seed: Annotated[int, "Seed of the stream of problems."] = 0

    def __post_init__(self) -> None:
        if not 2 <= self.numbers <= MAX_NUMBERS:
            raise ValueError(f"numbers is {self.numbers}; Countdown is played with 2 to {MAX_NUMBERS}.")
        if self.max_value < 1:
            raise ValueError(f"max_value is {self.max_value}; numbers are drawn from 1 to it, so it is at least 1.")
        if not 0 <= self.min_target <= self.max_target:
            raise ValueError(
                f"targets {self.min_target} to {self.max_target}: 0 <= min_target <= max_target is needed."
            )
        check_template(self.prompt, FIELDS)

    @property
    def targets(self) -> range:
        """Every target a problem may have."""
        return range(self.min_target, self.max_target + 1)


class Move(NamedTuple):
    """Two numbers become one: `Move(26, "-", 4, 22, (7,))` leaves 7 and 22."""

    left: int
    operator: str
    right: int
    result: int
    rest: tuple[int, ...]

    def write(self) -> str:
        """As a step of a completion: `26-4=22,7;`."""
        rest = "," + " ".join(map(str, self.rest)) if self.rest else ""
        return f"{self.left}{self.operator}{self.right}={self.result}{rest};"


Slot = tuple[int, int, str]


def _slots(num_numbers: int) -> tuple[Slot, ...]:
    """Every move that could be legal: sums and products once a pair, differences and quotients both ways."""
    pairs = list(combinations(range(num_numbers), 2))
    return tuple(
        slot
        for i, j in pairs
        for slot in ((i, j, "+"), (i, j, "*"), (i, j, "-"), (j, i, "-"), (i, j, "/"), (j, i, "/"))
    )


SLOTS = tuple(_slots(num_numbers) for num_numbers in range(MAX_NUMBERS + 1))


def apply(left: int, operator: str, right: int) -> int | None:
    """The result, or None where the move is not legal: no negative numbers, no fractions."""
    if operator == "+":
        return left + right
    if operator == "*":
        return left * right
    if operator == "-":
        return left - right if left >= right else None
    return left // right if right and left % right == 0 else None


def _move(numbers: Sequence[int], slot: Slot, result: int) -> Move:
    i, j, operator = slot
    rest = tuple([number for k, number in enumerate(numbers) if k != i and k != j])
    return Move(numbers[i], operator, numbers[j], result, rest)


def slots(num_numbers: int) -> tuple[Slot, ...]:
    """The slots of a state of that many numbers, from the table where it reaches."""
    return SLOTS[num_numbers] if num_numbers < len(SLOTS) else _slots(num_numbers)


def legal_moves(numbers: Sequence[int]) -> list[Move]:
    """Every legal move from here."""
    tried = [(slot, apply(numbers[slot[0]], slot[2], numbers[slot[1]])) for slot in slots(len(numbers))]
    return [_move(numbers, slot, result) for slot, result in tried if result is not None]


def random_slot(numbers: Sequence[int], rng: Random) -> tuple[Slot, int]:
    """A legal move and its result, each as likely: slots are drawn until one is legal (half of them always are)."""
    choices = slots(len(numbers))
    while True:
        slot = i, j, operator = choices[int(rng.random() * len(choices))]
        result = apply(numbers[i], operator, numbers[j])
        if result is not None:
            return slot, result


def random_walk(numbers: Sequence[int], rng: Random) -> list[Move]:
    """Uniform legal play from these numbers until one is left."""
    moves = []
    while len(numbers) > 1:
        moves.append(move := _move(numbers, *random_slot(numbers, rng)))
        numbers = sorted((*move.rest, move.result))
    return moves


def random_end(numbers: Sequence[int], rng: Random) -> int:
    """Where a random walk ends; its moves are not kept, which is three times as quick."""
    state = list(numbers)
    while len(state) > 1:
        (i, j, _), state[i] = random_slot(state, rng)
        del state[j]
    return state[0]


def draw_numbers(settings: CountdownProblems, rng: Random) -> tuple[int, ...]:
    """Numbers of a problem, each uniform in 1..max_value, in ascending order."""
    return tuple(sorted([1 + int(rng.random() * settings.max_value) for _ in range(settings.numbers)]))


def is_for_demonstrations(numbers: Iterable[int]) -> bool:
    """Whether these numbers, in any order, belong to the demonstrations alone; the same for every seed."""
    text = " ".join(map(str, sorted(numbers)))
    return hashlib.blake2b(text.encode(), digest_size=4).digest()[0] % DEMONSTRATION_SHARE == 0


def reachable(numbers: tuple[int, ...], memo: Memo) -> frozenset[int]:
    """Every end of every legal walk from sorted numbers."""
    if len(numbers) == 1:
        return frozenset(numbers)
    if numbers not in memo:
        states = {tuple(sorted((*move.rest, move.result))) for move in legal_moves(numbers)}
        memo[numbers] = frozenset().union(*(reachable(state, memo) for state in states))
    return memo[numbers]


def read_game(problem: Problem) -> tuple[tuple[int, ...], int]:
    """Numbers and target of a Countdown problem."""
    data = json.loads(problem.data)
    return tuple(data["numbers"]), data["target"]


def parse_game(text: str) -> tuple[tuple[int, ...], int]:
    """Numbers, then the target, out of any text: `4 26 7>15;` and `4, 26, 7 -> 15` are ((4, 26, 7), 15)."""
    numbers = [int(digits) for digits in re.findall(r"[0-9]{1,9}", text)]
    if len(numbers) < 3 or re.search(r"-\s*[0-9]|[0-9]\.[0-9]|[0-9]{10}", text):
        raise ValueError(f"{text!r} is no Countdown problem; write whole numbers, then the target, as 4 26 7>15.")
    return tuple(numbers[:-1]), numbers[-1]


def uniform_play(problem: Problem, targets: range, *, num_plays: int = 200, seed: int = 0) -> float:
    """Of uniform random walks that end among the targets, the share that hits the problem's: chance."""
    numbers, target = read_game(problem)
    rng = Random(f"uniform play:{seed}:{problem.problem_id}")
    ends = [random_end(numbers, rng) for _ in range(num_plays)]
    inside = [end for end in ends if end in targets]
    return inside.count(target) / len(inside) if inside else 0.0


def brute_force(problem: Problem, max_walks: int = 100_000) -> tuple[bool, int]:
    """Whether trying every walk in order solves it within `max_walks`, and how many complete walks that took."""
    numbers, target = read_game(problem)
    tried = 0
    for tried, end in enumerate(islice(_all_ends(numbers), max_walks), start=1):
        if end == target:
            return True, tried
    return False, tried


def _all_ends(numbers: Sequence[int]) -> Iterator[int]:
    if len(numbers) == 1:
        yield numbers[0]
        return
    for move in legal_moves(numbers):
        yield from _all_ends((*move.rest, move.result))
