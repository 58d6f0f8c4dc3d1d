"""What may be chosen about evaluation."""

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What is measured beside the accuracy, which is greedy and over the whole split."""

    pass_problems: Annotated[int, "Benchmark problems on which pass@8 and entropy are measured; 0: none."] = 250

    def __post_init__(self) -> None:
        if self.pass_problems < 0:
            raise ValueError(f"pass_problems is {self.pass_problems}; expected 0 or more")
