"""What may be chosen about search, and the table from a strategy's name to the strategy. Imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from models.search.beam import Beam
from models.search.best_of_n import WAVE, BestOfN
from models.search.budget import Budget
from models.search.mcts import MCTS
from models.search.protocol import Strategy

BOUNDARIES = {"countdown": ";"}
"""Verifier to what ends a step of the answers that it reads."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How rounds search: `SearchSettings(strategy="best_of_n", samples=8)`."""

    strategy: Annotated[Literal["best_of_n", "mcts", "beam", "dvts"], "How a problem is searched."] = "best_of_n"
    temperature: Annotated[float, "Sampling temperature of the attempts, or of a tree's steps."] = 0.85
    enough: Annotated[int, "Right attempts that end a problem's search (best_of_n looks every 4); 0: none do."] = 4
    samples: Annotated[int, "best_of_n: most attempts at a problem in a round."] = 16
    tokens: Annotated[int, "Trees: most tokens generated for a problem, duplicates and all."] = 600
    boundary: Annotated[
        str | int,
        "Trees: where a step ends, after this text or so many tokens; empty: ; for Countdown, else a newline.",
    ] = ""
    guide: Annotated[
        Literal["verifier", "rules", "likelihood", "agreement"],
        "Trees: what says how good an answer is; verifier may read the gold answer, the others do not.",
    ] = "verifier"
    adaptive: Annotated[
        bool, "Whether hard problems get more of a round's budget, and what a round saves raises the next one's."
    ] = False
    exploration: Annotated[float, "mcts: what an uncertain step is worth beside a good one (PUCT's c)."] = 1.25
    widening: Annotated[float, "mcts: a step has at most its visits to this power of next steps."] = 0.5
    width: Annotated[int, "beam, dvts: unfinished answers that are kept at each depth."] = 4
    expansion: Annotated[int, "beam, dvts: next steps that are tried of each."] = 4
    rollouts: Annotated[
        int, "beam, dvts: answers written on from a step, whose mean value is its own; 0: the guide's word is."
    ] = 2

    def __post_init__(self) -> None:
        for name in ("samples", "tokens", "width", "expansion"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.enough < 0:
            raise ValueError(f"enough is {self.enough}; expected a number of right attempts, or 0 to make all")
        if self.rollouts < 0:
            raise ValueError(f"rollouts is {self.rollouts}; expected 0, the guide's word, or more")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; expected more than 0: attempts must differ to teach")
        if isinstance(self.boundary, int) and self.boundary < 1:
            raise ValueError(f"boundary is {self.boundary!r}; expected a text that ends steps, or a number of tokens")
        if self.exploration < 0:
            raise ValueError(f"exploration is {self.exploration}; expected 0 or more")
        if not 0 <= self.widening <= 1:
            raise ValueError(f"widening is {self.widening}; expected 0, one next step, to 1, as many as visits")

    @property
    def budget(self) -> int:
        """What may be spent on a problem: attempts of best_of_n, tokens of a tree."""
        return self.samples if self.strategy == "best_of_n" else self.tokens

    def with_budget(self, budget: int) -> "SearchSettings":
        """The same with another budget."""
        return replace(self, samples=budget) if self.strategy == "best_of_n" else replace(self, tokens=budget)

    @property
    def last_look(self) -> int:
        """Attempts of best_of_n that are made when it last looks whether there are enough right ones."""
        return (self.samples - 1) // WAVE * WAVE


def _mcts(settings: SearchSettings) -> Strategy:
    return MCTS(
        budget=Budget(tokens=settings.tokens),
        boundary=settings.boundary,
        temperature=settings.temperature,
        exploration=settings.exploration,
        widening=settings.widening,
        enough=settings.enough,
    )


def _beam(settings: SearchSettings) -> Strategy:
    return Beam(
        budget=Budget(tokens=settings.tokens),
        boundary=settings.boundary,
        temperature=settings.temperature,
        width=settings.width,
        expansion=settings.expansion,
        rollouts=settings.rollouts,
        is_diverse=settings.strategy == "dvts",
        enough=settings.enough,
    )


def _best_of_n(settings: SearchSettings) -> Strategy:
    return BestOfN(samples=settings.samples, temperature=settings.temperature, enough=settings.enough)


STRATEGIES: dict[str, Callable[[SearchSettings], Strategy]] = {
    "best_of_n": _best_of_n,
    "mcts": _mcts,
    "beam": _beam,
    "dvts": _beam,
}
"""Name to strategy."""


def open_strategy(settings: SearchSettings, verifier: str = "") -> Strategy:
    """The strategy that the settings name, its steps those of answers to problems of a verifier."""
    boundary = settings.boundary or BOUNDARIES.get(verifier, "\n")
    return STRATEGIES[settings.strategy](replace(settings, boundary=boundary))
