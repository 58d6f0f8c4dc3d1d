"""Demonstrations for policy initialization: made goal-blind for Countdown, or read from a file.

A Countdown demonstration plays uniform legal moves under a target that it does
not look at, and ends where some target may lie; so it teaches the rules and not
the answers. Its number sets are kept for demonstrations alone. A part of them shows reasoning behaviours in
marks of the grammar: `!` starts an alternative, `?` checks the step before it,
`~` takes it back and corrects it (https://arxiv.org/abs/2412.14135, section 3).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from storage.countdown import (
    WALKS_A_DRAW,
    CountdownProblems,
    Move,
    draw_numbers,
    is_for_demonstrations,
    random_end,
    random_walk,
)
from storage.records import Problem
from storage.sources.countdown import game_fields
from storage.sources.rows import read_rows
from storage.sources.source import canonical_text

CHARACTERS = "0123456789+-*/=,;?!~> "
"""What a Countdown text may be written in."""
PATIENCE = 10_000
"""Draws of numbers in a row that may be of no use; a fifth are the demonstrations'."""
NUMBERS = re.compile(r"[0-9]+(?:[ ,]+[0-9]+)+")
"""Numbers in a row, as a Countdown problem lists them."""
INVERSES = {"+": "-", "-": "+", "*": "/", "/": "*"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Demonstration:
    """A text to learn from: `Demonstration(prompt="4 7 26>15;", completion="26-4=22,7;22-7=15;")`."""

    prompt: str
    completion: str


def countdown_demonstrations(
    settings: CountdownProblems, *, seed: int, behaviour_share: float
) -> Iterator[Demonstration]:
    """Endless goal-blind walks, `behaviour_share` of them with a behaviour (each kind as likely)."""
    rng = Random(f"countdown demonstrations:{seed}")
    kinds = list(BEHAVIOURS.values())
    while True:
        numbers = draw_own_numbers(settings, rng)
        write = rng.choice(kinds) if rng.random() < behaviour_share else write_walk
        target = rng.choice(settings.targets)
        yield Demonstration(
            prompt=settings.prompt.format_map(game_fields(numbers, target)),
            completion=write(play(numbers, settings.targets, rng), rng),
        )


def draw_own_numbers(settings: CountdownProblems, rng: Random) -> tuple[int, ...]:
    """Numbers that no problem has and that reach some target. Raises ValueError where there seem to be none."""
    for _ in range(PATIENCE):
        numbers = draw_numbers(settings, rng)
        if is_for_demonstrations(numbers) and can_reach(numbers, settings.targets, rng):
            return numbers
    raise ValueError(
        f"{PATIENCE:,} draws of {settings.numbers} numbers from 1 to {settings.max_value} gave none for demonstrations "
        f"that reaches {settings.min_target} to {settings.max_target}: raise max_value, or widen the targets"
    )


def can_reach(numbers: tuple[int, ...], targets: range, rng: Random) -> bool:
    """Whether a few random walks from these numbers end among the targets."""
    return any(random_end(numbers, rng) in targets for _ in range(WALKS_A_DRAW))


def play(numbers: tuple[int, ...], targets: range, rng: Random) -> Iterator[list[Move]]:
    """Endless random walks that end where some target may lie; which one is asked for makes no difference."""
    while True:
        moves = random_walk(numbers, rng)
        if moves[-1].result in targets:
            yield moves


def file_demonstrations(path: Path) -> Iterator[Demonstration]:
    """Rows of prompt and completion. Raises ValueError that names file and line."""
    for place, row in read_rows(path):
        texts = [row.get("prompt"), row.get("completion")]
        if not all(isinstance(text, str) and text for text in texts):
            found = ", ".join(row) or "nothing"
            raise ValueError(
                f"{place} has {found}; expected a prompt and a completion, both texts with something in them."
            )
        yield Demonstration(prompt=row["prompt"], completion=row["completion"])


def keep_apart(demonstrations: Iterable[Demonstration], reserved: Iterable[Problem]) -> list[Demonstration]:
    """The demonstrations that ask none of the reserved problems, neither by its prompt nor by its question."""
    asked = {ask(text, problem.verifier) for problem in reserved for text in (problem.prompt, problem.question)}
    verifiers = {verifier for _, verifier in asked}
    return [each for each in demonstrations if asked.isdisjoint(ask(each.prompt, verifier) for verifier in verifiers)]


def ask(text: str, verifier: str) -> tuple[str, str]:
    """What tells whether two texts ask the same: not their white space, nor the order of a Countdown game's numbers."""
    text = canonical_text(text)
    return (NUMBERS.sub(sort_numbers, text) if verifier == "countdown" else text), verifier


def sort_numbers(found: re.Match[str]) -> str:
    """`7, 26, 4` in an order of their own: `26 4 7`."""
    return " ".join(sorted(re.findall("[0-9]+", found[0])))


Walks = Iterator[list[Move]]


def write_walk(walks: Walks, _: Random) -> str:
    """A walk, plainly: `26-4=22,7;22-7=15;`."""
    return "".join(move.write() for move in next(walks))


def write_alternatives(walks: Walks, rng: Random) -> str:
    """One to three walks given up for another: `26+4=30,7;30+7=37;!26-4=22,7;22-7=15;`."""
    return "!".join(write_walk(walks, rng) for _ in range(rng.randint(2, 4)))


def write_check(walks: Walks, _: Random) -> str:
    """A walk with each step checked by its inverse: `26-4=22,7;?22+4=26;22-7=15;?15+7=22;`."""
    return "".join(move.write() + "?" + invert(move) for move in next(walks))


def write_correction(walks: Walks, rng: Random) -> str:
    """A walk with one miscalculated step taken back: `26-4=21,7;~26-4=22,7;22-7=15;`."""
    moves = next(walks)
    slip = rng.randrange(len(moves))
    return "".join(
        miscalculate(move, rng) + "~" + move.write() if index == slip else move.write()
        for index, move in enumerate(moves)
    )


def invert(move: Move) -> str:
    """The step read backwards: `26-4=22` gives `22+4=26;`."""
    left, operator, right, result, _ = move
    if operator == "*" and right == 0:
        return f"{right}*{left}={result};"
    return f"{result}{INVERSES[operator]}{right}={left};"


def miscalculate(move: Move, rng: Random) -> str:
    """The step with a result that is a little off."""
    return move._replace(result=move.result + rng.choice((1, 2, 10))).write()


BEHAVIOURS: dict[str, Callable[[Walks, Random], str]] = {
    "alternative_proposal": write_alternatives,
    "self_evaluation": write_check,
    "self_correction": write_correction,
}
"""Behaviour to the writer that shows it."""
