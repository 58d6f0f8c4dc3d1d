"""What every problem source is: a deterministic stream, its first problems reserved and the rest for training.

A maker knows one kind of problem and yields distinct ones for ever or until it
runs dry; `Source` divides what it yields. Benchmark and final are taken first, so
that no setting of training can move a problem into or out of them.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Annotated, Protocol, TypeVar

from storage.records import Problem, Split

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
