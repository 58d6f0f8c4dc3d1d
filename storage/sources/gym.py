"""Any reasoning-gym dataset as a stream of problems (https://github.com/open-thought/reasoning-gym).

The library's own scorer judges them, in models/reward; Countdown alone is judged by
our parser, and its problems have the ids that our own Countdown source gives.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from subprocess import DEVNULL, PIPE, Popen
from typing import Annotated, Any, Literal

from storage.countdown import FIELDS, parse_game
from storage.prompt import check_template
from storage.records import Problem, Split
from storage.sources import gym_entries
from storage.sources.countdown import Game, game_data, game_fields, game_id
from storage.sources.source import Capacity, distinct, question_id, typed_problem

PATIENCE = 1_000
"""Entries in a row with nothing new that end the stream."""
NARROW = 50
"""A size that ranges wider than this is no label of difficulty."""
COUNTDOWN = "countdown"
WORDING = (
    "Using all the numbers {numbers}, create an expression that equals {target}.\nYou can only use each number once."
)
"""The library's, for a game that a person typed."""


@dataclass(frozen=True, kw_only=True)
class GymProblems:
    """Problems of a reasoning-gym dataset: `GymProblems(dataset="chain_sum", params={"max_terms": 4})`."""

    kind: Annotated[Literal["reasoning_gym"], "Problems made by reasoning-gym."] = "reasoning_gym"
    dataset: Annotated[str, "The dataset's name in reasoning-gym."]
    params: Annotated[dict[str, Any], "The dataset's own parameters, less seed and size."] = field(default_factory=dict)
    prompt: Annotated[str, "Prompt template; fields: question, and for countdown numbers and target."] = "{question}"
    seed: Annotated[int, "Seed of the stream of problems."] = 0

    def __post_init__(self) -> None:
        check_template(self.prompt, FIELDS if self.dataset == COUNTDOWN else ("question",))


class GymMaker:
    """Makes reasoning-gym problems: `GymMaker(GymProblems(dataset="chain_sum"))`."""

    def __init__(self, settings: GymProblems) -> None:
        self._settings = settings
        self.name = f"reasoning_gym:{settings.dataset}"

    def draws(self) -> Iterator[Problem]:
        """Problems in the order of the library's seeds. Raises ValueError on a wrong dataset or params."""
        problems = map(self._problem, run_entries(self._settings))
        for position, problem in enumerate(distinct(problems, lambda problem: problem.problem_id, PATIENCE)):
            yield replace(problem, position=position)

    def held_out(self) -> None:
        """Benchmark and final come from the one stream."""

    def capacity(self) -> Capacity:
        """Not known: the library does not say."""
        return Capacity(count=None, exact=False, note="reasoning_gym does not say how many there are")

    def dry_advice(self) -> str:
        """Wider parameters make more."""
        return f"widen the params of {self._settings.dataset} ({self._settings.params or 'its defaults'})"

    def parse(self, question: str) -> Problem:
        """A typed problem; only a Countdown game (`4 26 7>15`) can be judged, for all others lack an entry."""
        if self._settings.dataset != COUNTDOWN:
            return typed_problem(question, self.name, self._settings.prompt)
        numbers, target = parse_game(question)
        return self._game((numbers, target), WORDING.format(numbers=", ".join(map(str, numbers)), target=target))

    def _problem(self, entry: dict[str, Any]) -> Problem:
        metadata, question = entry["metadata"], entry["question"]
        if self._settings.dataset == COUNTDOWN:
            return self._game((tuple(metadata["numbers"]), metadata["target"]), question)
        data = {"dataset": self._settings.dataset, "params": self._settings.params, "entry": entry}
        return Problem(
            problem_id=question_id(question),
            source=self.name,
            split=Split.TRAIN,
            prompt=self._settings.prompt.format_map({"question": question}),
            question=question,
            answer="" if entry["answer"] is None else str(entry["answer"]),
            data=json.dumps(data),
            verifier="reasoning_gym",
            difficulty=read_difficulty(metadata),
        )

    def _game(self, game: Game, question: str) -> Problem:
        return Problem(
            problem_id=game_id(game),
            source=self.name,
            split=Split.TRAIN,
            prompt=self._settings.prompt.format_map(game_fields(*game) | {"question": question}),
            question=question,
            data=game_data(*game),
            verifier="countdown",
            difficulty=str(len(game[0])),
        )


def run_entries(settings: GymProblems) -> Iterator[dict[str, Any]]:
    """The library's entries, for ever, from a process of its own, which ends with the iterator."""
    asked = json.dumps([settings.dataset, settings.params, first_seed(settings.seed)])
    command = [sys.executable, "-P", "-m", gym_entries.__name__, asked]
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # A process group of its own, so that Ctrl-C is ours alone to answer.
    with Popen(
        command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=environment, text=True, process_group=0
    ) as process:
        try:
            yield from map(_read_line, process.stdout or ())
        finally:
            process.kill()
    raise RuntimeError(
        f"the process that makes problems of {settings.dataset} ended by itself (code {process.returncode}); "
        "was it killed for its memory? Run again: the same problems follow."
    )


def first_seed(seed: int) -> int:
    """Where the library's seeds start: neighbouring streams lie far apart, and numpy takes no more than 32 bits."""
    return int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=4).digest()) >> 1


def read_difficulty(metadata: dict[str, Any]) -> str:
    """An entry's own sizes where it tells them, `num_digits=2 num_terms=4`; wide ranges are no labels."""
    ranges = metadata.get("difficulty")
    if not isinstance(ranges, dict):
        return "" if ranges is None else str(ranges)
    sizes = {name: metadata.get(name, bounds) for name, bounds in ranges.items() if _is_narrow(bounds)}
    return " ".join(f"{name}={size}" for name, size in sorted(sizes.items()) if isinstance(size, int))


def _is_narrow(bounds: Any) -> bool:
    match bounds:
        case [int(low), int(high)]:
            return high - low <= NARROW
        case _:
            return isinstance(bounds, int)


def _read_line(line: str) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(line)
    if "refused" in message:
        raise ValueError(message["refused"])
    entry: dict[str, Any] = message["entry"]
    return entry
