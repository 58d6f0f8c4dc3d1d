"""What may be chosen about search, and the table from a strategy's name to the strategy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from models.search.best_of_n import BestOfN
from models.search.protocol import Strategy


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How rounds search: `SearchSettings(strategy="best_of_n", samples=8)`."""

    strategy: Annotated[Literal["best_of_n"], "How a problem is searched."] = "best_of_n"
    samples: Annotated[int, "Attempts at a problem in a round."] = 12
    temperature: Annotated[float, "Sampling temperature of the attempts."] = 0.7

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}; expected at least 1")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; expected more than 0: attempts must differ to teach")


STRATEGIES: dict[str, Callable[[SearchSettings], Strategy]] = {
    "best_of_n": lambda settings: BestOfN(samples=settings.samples, temperature=settings.temperature),
}
"""Name to strategy."""


def open_strategy(settings: SearchSettings) -> Strategy:
    """The strategy that the settings name."""
    return STRATEGIES[settings.strategy](settings)
