"""How to think about what is solved or measured, as a person asks for it."""

from dataclasses import replace
from typing import Literal, NamedTuple

from flows.config import Config
from models.search.beam import Beam
from models.search.best_of_n import GREEDY
from models.search.budget import Budget
from models.search.mcts import MCTS
from models.search.settings import open_strategy
from storage.records import Problem
from tasks.choose import Thinking, think

TEMPERATURE = 1.0
"""Of all that is tried."""


class Search(NamedTuple):
    """How to think about what is solved or measured, as it is asked for on the command line."""

    strategy: Literal["best_of_n", "mcts", "beam", "dvts"]
    samples: int
    budget: Budget
    """Of a tree."""
    guide: str | None
    """None: what the problem allows."""
    choice: str | None

    def open(self, config: Config, problem: Problem) -> Thinking:
        """The strategy, its steps as configured, and what guides and chooses. Raises ValueError where that is idle."""
        ends = 0 if self.strategy == "best_of_n" else 1
        settings = replace(
            config.search,
            strategy=self.strategy,
            samples=self.samples,
            temperature=TEMPERATURE,
            enough=ends,
        )
        strategy = (
            GREEDY if self.strategy == "best_of_n" and self.samples == 1 else open_strategy(settings, problem.verifier)
        )
        if isinstance(strategy, MCTS | Beam):
            strategy = replace(strategy, budget=self.budget)
        return think(problem, strategy, self.guide, self.choice)
