"""Where problems come from: a visible table from a kind to its settings and its maker.

Splitting what a maker yields, and telling when it runs dry, is storage/sources/source.py's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from storage.countdown import CountdownProblems
from storage.sources.countdown import CountdownMaker
from storage.sources.file import FileProblems, file_maker
from storage.sources.gym import GymMaker, GymProblems
from storage.sources.hub import HubProblems, hub_maker
from storage.sources.source import Maker, Source, Splits

ProblemSettings = CountdownProblems | GymProblems | FileProblems | HubProblems


class Kind(NamedTuple):
    """A kind of problems: the type of its settings, and what makes them."""

    settings: type[ProblemSettings]
    maker: Callable[[Any], Maker]


KINDS: dict[str, Kind] = {
    "countdown": Kind(CountdownProblems, CountdownMaker),
    "reasoning_gym": Kind(GymProblems, GymMaker),
    "file": Kind(FileProblems, file_maker),
    "hub": Kind(HubProblems, hub_maker),
}
"""Kind, as settings say it, to its settings and maker."""


def open_source(settings: ProblemSettings, splits: Splits) -> Source:
    """The source that the settings describe. Touches no disk; what is wrong shows when problems are drawn."""
    return Source(KINDS[settings.kind].maker(settings), splits)
