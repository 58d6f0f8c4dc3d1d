"""Objectives by name, and from which form of the data each learns."""

from typing import NamedTuple

from models.learning.advantages import Baseline
from models.learning.cloning import Cloning
from models.learning.gradient import Gradient, Mean
from models.learning.objective import Objective
from models.learning.preference import Preference
from models.learning.settings import LearningSettings

CLIP = 0.2
HIGHER = 0.28
"""DAPO's clip-higher."""
OVERLONG_SHARE = 0.2
"""Of the longest answer: where DAPO's penalty begins, before it (4,096 of 20,480 tokens in the paper)."""


class Kind(NamedTuple):
    """What makes one policy gradient another; the formulas are in gradient.py and advantages.py."""

    baseline: Baseline
    mean: Mean
    clip_low: float
    clip_high: float
    overlong_share: float


GRADIENT_KINDS: dict[str, Kind] = {
    "reinforce": Kind("leave_one_out", "sum", 0.0, 0.0, 0.0),
    "grpo": Kind("standardised", "answer", CLIP, CLIP, 0.0),
    "dr_grpo": Kind("centred", "constant", CLIP, CLIP, 0.0),
    "dapo": Kind("standardised", "token", CLIP, HIGHER, OVERLONG_SHARE),
}


def open_objective(settings: LearningSettings, longest: int) -> Objective:
    """The objective of the settings; `longest` is how many tokens an answer may have."""
    if settings.objective == "cloning":
        return Cloning()
    if settings.objective == "dpo":
        return Preference(beta=settings.beta, nll_weight=settings.nll_weight)
    kind = GRADIENT_KINDS[settings.objective]
    return Gradient(
        mean=kind.mean,
        clip_low=kind.clip_low,
        clip_high=kind.clip_high,
        kl_weight=settings.kl_weight,
        importance_cap=settings.importance_cap,
        longest=longest,
    )
