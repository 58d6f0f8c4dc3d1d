from dataclasses import replace
from typing import Any, get_args, get_type_hints

import pytest

from models.reward.guidance import GUIDES
from models.search.beam import Beam
from models.search.best_of_n import BestOfN
from models.search.budget import Budget
from models.search.mcts import MCTS
from models.search.settings import STRATEGIES, SearchSettings, open_strategy


def test_every_name_has_a_strategy_and_every_strategy_a_name() -> None:
    assert get_args(get_type_hints(SearchSettings)["strategy"]) == tuple(STRATEGIES)


def test_the_settings_open_their_strategy() -> None:
    settings = SearchSettings(strategy="best_of_n", samples=8, enough=3, temperature=0.5)
    assert open_strategy(settings) == BestOfN(samples=8, temperature=0.5, enough=3)
    settings = SearchSettings(strategy="mcts", tokens=300, boundary="\n\n", exploration=2.0, widening=0.3, enough=3)
    assert open_strategy(settings) == MCTS(
        budget=Budget(tokens=300), boundary="\n\n", temperature=0.85, exploration=2.0, widening=0.3, enough=3
    )
    settings = SearchSettings(strategy="dvts", tokens=300, boundary=20, width=8, expansion=2, rollouts=3)
    assert open_strategy(settings) == Beam(
        budget=Budget(tokens=300),
        boundary=20,
        temperature=0.85,
        width=8,
        expansion=2,
        rollouts=3,
        is_diverse=True,
        enough=4,
    )
    assert open_strategy(replace(settings, strategy="beam")) == replace(open_strategy(settings), is_diverse=False)  # type: ignore[type-var]


def test_steps_end_as_the_answers_of_the_problems_do() -> None:
    settings = SearchSettings(strategy="mcts")
    ends = [getattr(open_strategy(settings, verifier), "boundary", None) for verifier in ("countdown", "math", "")]
    assert ends == [";", "\n", "\n"]
    assert open_strategy(replace(settings, boundary="="), "countdown") == open_strategy(replace(settings, boundary="="))


def test_a_budget_is_attempts_or_tokens() -> None:
    sampled, grown = SearchSettings(samples=16, enough=2), SearchSettings(strategy="beam", tokens=300)
    assert (sampled.budget, grown.budget) == (16, 300)
    assert sampled.with_budget(40).samples == 40 and grown.with_budget(40).tokens == 40
    assert [replace(sampled, samples=samples).last_look for samples in (1, 4, 5, 16)] == [0, 0, 4, 12]


def test_every_guide_that_can_be_named_is_there() -> None:
    assert set(get_args(get_type_hints(SearchSettings)["guide"])) == set(GUIDES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"enough": -1}, "enough is -1"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": -1.0}, "-1.0"),
        ({"tokens": 0}, "tokens is 0"),
        ({"width": 0}, "width is 0"),
        ({"boundary": -3}, "boundary is -3; expected a text that ends steps, or a number of tokens"),
        ({"rollouts": -1}, "rollouts is -1"),
        ({"exploration": -0.1}, "exploration is -0.1"),
        ({"widening": 1.5}, "widening is 1.5; expected 0, one next step, to 1, as many as visits"),
    ],
)
def test_settings_that_cannot_teach_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchSettings(**changes)
