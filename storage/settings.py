"""What may be chosen about memory. Imports no database, so that a configuration is checked at once."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

RULES = tuple(sorted(path.stem for path in (Path(__file__).parent / "sql" / "filter").glob("*.sql")))
"""What may decide what trains; storage/selection.py asks it."""


@dataclass(frozen=True, kw_only=True)
class CurriculumSettings:
    """What a round searches: `CurriculumSettings(problems=4000, new_share=0.5)`."""

    problems: Annotated[int, "Problems searched in a round."] = 4000
    new_share: Annotated[float, "Share of them that was never searched; more where too few are known."] = 0.5
    fade: Annotated[float, "What a past attempt still counts after each change of champion."] = 0.5

    def __post_init__(self) -> None:
        if self.problems < 1:
            raise ValueError(f"problems is {self.problems}; expected at least 1.")
        if not 0 <= self.new_share <= 1:
            raise ValueError(f"new_share is {self.new_share}; expected from 0, all known, to 1, all new.")
        if not 0 <= self.fade <= 1:
            raise ValueError(f"fade is {self.fade}; expected from 0, only the last champion counts, to 1, all count.")


@dataclass(frozen=True, kw_only=True)
class FilterSettings:
    """What may train: `FilterSettings(max_per_problem=2)`."""

    rule: Annotated[str, "The rule, a file of storage/sql/filter."] = "default"
    max_per_problem: Annotated[int, "Most solutions of one problem that train."] = 4
    balance: Annotated[
        float, "Most that one difficulty gives, as a multiple of its even share; of two difficulties 2 is no limit."
    ] = 1.5

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            near = "".join(f" Did you mean {rule!r}?" for rule in get_close_matches(self.rule, RULES, n=1))
            raise ValueError(f"rule is {self.rule!r}; expected one of storage/sql/filter: {', '.join(RULES)}.{near}")
        if self.max_per_problem < 1:
            raise ValueError(f"max_per_problem is {self.max_per_problem}; expected at least 1.")
        if self.balance < 1:
            raise ValueError(f"balance is {self.balance}; expected at least 1, the even share.")
