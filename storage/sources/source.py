"""What every problem source is: a deterministic stream, its first problems reserved and the rest for training.

A maker knows one kind of problem and yields distinct ones for ever or until it
runs dry; `Source` divides what it yields. Benchmark and final are taken first, so
that no setting of training can move a problem into or out of them.
"""

import unicodedata
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Annotated, Protocol, TypeVar

from storage.records import Problem, Split, make_id

HELD_OUT = (Split.BENCHMARK, Split.FINAL)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Splits:
    """How many problems to reserve: `Splits(benchmark=2000, final=1000, development=500)`."""

    benchmark: Annotated[int, "Problems that decide promotions."] = 2000
    final: Annotated[int, "Problems for the claim at the end, untouched until then."] = 1000
    development: Annotated[int, "Problems for choosing settings such as temperature."] = 500

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if size < 0:
                raise ValueError(f"split size {name} is {size}; it cannot be negative.")

    def size(self, split: Split) -> int:
        """Problems asked for a reserved split."""
        sizes = {Split.BENCHMARK: self.benchmark, Split.FINAL: self.final, Split.DEVELOPMENT: self.development}
        return sizes[split]


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """How many distinct problems a source can make: `Capacity(count=33298, exact=True)`."""

    count: int | None
    """None where nobody knows."""
    exact: bool
    note: str = ""

    def describe(self) -> str:
        """In words: 33,298 problems · about 1,900,000 problems · no known bound."""
        note = f" ({self.note})" if self.note else ""
        if self.count is None:
            return f"no known bound{note}"
        if self.exact:
            return f"{self.count:,} problem{'' if self.count == 1 else 's'}{note}"
        return f"about {round(self.count, 2 - len(str(self.count))):,} problems{note}"


class RanDry(ValueError):
    """Fewer new problems are left than were asked for; `problems` are those that are."""

    def __init__(self, message: str, problems: list[Problem]) -> None:
        super().__init__(message)
        self.problems = problems


class Maker(Protocol):
    """Knows one kind of problem."""

    @property
    def name(self) -> str:
        """As `Problem.source` says it."""
        ...

    def draws(self) -> Iterator[Problem]:
        """Distinct train problems, in an order that is a function of the settings alone."""
        ...

    def held_out(self) -> Iterator[Problem] | None:
        """Distinct problems for benchmark and final where they have a place of their own; none is in `draws`."""
        ...

    def capacity(self) -> Capacity:
        """How many problems it can make, as far as can be told cheaply."""
        ...

    def dry_advice(self) -> str:
        """What to change when it runs dry: `raise max_value`."""
        ...

    def parse(self, question: str) -> Problem:
        """A problem a person typed. Raises ValueError with an example."""
        ...


class Source:
    """A maker's problems, divided into splits that share none."""

    def __init__(self, maker: Maker, splits: Splits) -> None:
        self._maker = maker
        self._splits = splits
        self.name = maker.name
        self.capacity = maker.capacity
        self.dry_advice = maker.dry_advice
        self.parse = maker.parse

    def reserved(self) -> dict[Split, list[Problem]]:
        """Benchmark, final and development problems. Raises ValueError where the source makes too few."""
        return self._divide()[0]

    def train(self) -> Iterator[Problem]:
        """The rest of the stream, from its start; ends when the source runs dry."""
        return self._divide()[1]

    def draw_new(self, num: int, used: Container[str]) -> list[Problem]:
        """The next `num` training problems whose ids are not `used`. Raises RanDry where fewer are left."""
        problems = list(islice((problem for problem in self.train() if problem.problem_id not in used), num))
        if len(problems) < num:
            raise RanDry(self._ran_dry(num, len(problems)), problems)
        return problems

    def _divide(self) -> tuple[dict[Split, list[Problem]], Iterator[Problem]]:
        stream, held_out = self._maker.draws(), self._maker.held_out()
        if held_out is None:
            return self._allot(stream, (*HELD_OUT, Split.DEVELOPMENT), num_train=1)
        reserved, _ = self._allot(held_out, HELD_OUT, num_train=0)
        development, rest = self._allot(stream, (Split.DEVELOPMENT,), num_train=1)
        return reserved | development, rest

    def _allot(
        self, pool: Iterator[Problem], splits: tuple[Split, ...], num_train: int
    ) -> tuple[dict[Split, list[Problem]], Iterator[Problem]]:
        """Problems of each split, and the pool behind them, which holds `num_train` at least."""
        taken = {split: [replace(p, split=split) for p in islice(pool, self._splits.size(split))] for split in splits}
        train = list(islice(pool, num_train))
        num_made = sum(map(len, taken.values())) + len(train)
        if num_made < num_train + sum(map(self._splits.size, splits)):
            raise ValueError(self._too_few(num_made, splits, num_train))
        return taken, chain(train, pool)

    def _ran_dry(self, num: int, num_left: int) -> str:
        return (
            f"{self.name} has run dry: {num:,} new problems are asked for and {num_left:,} are left "
            f"of {self.capacity().describe()}. Ask for fewer new ones, or {self.dry_advice()}."
        )

    def _too_few(self, num_made: int, splits: tuple[Split, ...], num_train: int) -> str:
        asked = [f"{split} {self._splits.size(split):,}" for split in splits] + ["train at least 1"] * num_train
        return (
            f"{self.name} makes {num_made:,} problems for these splits, and {' + '.join(asked)} are asked for. "
            f"Ask for smaller splits, or {self.dry_advice()}."
        )


def distinct(draws: Iterable[T | None], key: Callable[[T], Hashable], patience: int) -> Iterator[T]:
    """Each new draw once, None being no draw at all; ends after `patience` draws in a row with nothing new."""
    seen = set()
    num_fruitless = 0
    for draw in draws:
        if draw is not None and (content := key(draw)) not in seen:
            seen.add(content)
            num_fruitless = 0
            yield draw
        else:
            num_fruitless += 1
            if num_fruitless == patience:
                return


def canonical_text(text: str) -> str:
    """The text in single spaces and NFC. NFKC and lower case would make one of `3²` and `32`, of `aB` and `Ab`."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def question_id(question: str) -> str:
    """The id of a problem that is its question: white space and the coding of characters do not tell."""
    return make_id("problem", canonical_text(question))


def typed_problem(question: str, source: str, prompt: str) -> Problem:
    """A question that a person typed. It has no gold answer: `math` judges it an error, and says so."""
    if not question.strip():
        raise ValueError("the problem is empty; write one, as: What is 6 times 7?")
    try:
        text = prompt.format_map({"question": question})
    except KeyError as error:
        raise ValueError(
            f"prompt {prompt!r} needs {{{error.args[0]}}}, which a typed problem lacks; use one of {{question}} alone."
        ) from error
    return Problem(
        problem_id=question_id(question),
        source=source,
        split=Split.TRAIN,
        prompt=text,
        question=question,
        verifier="math",
    )
