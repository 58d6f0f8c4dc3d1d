"""What may be chosen about search, and the table from a strategy's name to the strategy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from models.search.best_of_n import WAVE, BestOfN
from models.search.protocol import Strategy


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How rounds search: `SearchSettings(strategy="best_of_n", samples=8)`."""

    strategy: Annotated[Literal["best_of_n"], "How a problem is searched."] = "best_of_n"
    samples: Annotated[int, "Most attempts at a problem in a round."] = 16
    enough: Annotated[int, "Right attempts after which a problem gets no more (it looks every 4); 0: all are made."] = 0
    temperature: Annotated[float, "Sampling temperature of the attempts."] = 0.7

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}; expected at least 1")
        if self.enough < 0:
            raise ValueError(f"enough is {self.enough}; expected a number of right attempts, or 0 to make all")
        if self.enough > (last_look := (self.samples - 1) // WAVE * WAVE):
            raise ValueError(
                f"enough is {self.enough} and would do nothing: of {self.samples} samples, {last_look} are made by the "
                "last look; raise samples, or lower enough"
            )
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; expected more than 0: attempts must differ to teach")


STRATEGIES: dict[str, Callable[[SearchSettings], Strategy]] = {
    "best_of_n": lambda settings: BestOfN(
        samples=settings.samples, temperature=settings.temperature, enough=settings.enough
    ),
}
"""Name to strategy."""


def open_strategy(settings: SearchSettings) -> Strategy:
    """The strategy that the settings name."""
    return STRATEGIES[settings.strategy](settings)
