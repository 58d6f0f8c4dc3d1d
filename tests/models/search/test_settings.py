from typing import Any, get_args, get_type_hints

import pytest

from models.search.best_of_n import BestOfN
from models.search.settings import STRATEGIES, SearchSettings, open_strategy


def test_every_name_has_a_strategy_and_every_strategy_a_name() -> None:
    assert get_args(get_type_hints(SearchSettings)["strategy"]) == tuple(STRATEGIES)


def test_the_settings_open_their_strategy() -> None:
    settings = SearchSettings(strategy="best_of_n", samples=8, enough=3, temperature=0.5)
    assert open_strategy(settings) == BestOfN(samples=8, temperature=0.5, enough=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"enough": -1}, "enough is -1"),
        ({"samples": 8, "enough": 5}, "would do nothing: of 8 samples, 4 are made by the last look"),
        ({"samples": 4, "enough": 1}, "would do nothing: of 4 samples, 0 are made by the last look"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": -1.0}, "-1.0"),
    ],
)
def test_settings_that_cannot_teach_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchSettings(**changes)
