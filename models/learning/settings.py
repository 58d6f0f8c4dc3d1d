"""What may be chosen about learning. Imports no torch, so that a configuration is checked at once."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How weights are changed."""

    when_not_finite: ClassVar[str] = "lower learning_rate, or look at those examples"
    """What to do about a loss that is not finite."""

    learning_rate: Annotated[float, "Peak learning rate (AdamW)."] = 1e-3
    epochs: Annotated[float, "Passes over the examples; a part of one is allowed."] = 2.0
    batch_tokens: Annotated[int, "Most tokens in a batch, prompts and padding included."] = 512
    warmup_share: Annotated[float, "Share of the steps in which the learning rate rises; then it falls to zero."] = 0.05
    weight_decay: Annotated[float, "AdamW's decoupled weight decay."] = 0.01
    max_grad_norm: Annotated[float, "Gradients are clipped to this norm."] = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate must be between 0 and 1, found {self.learning_rate}")
        if not 0 < self.epochs <= 1000:
            raise ValueError(f"epochs must be over 0 and at most 1000, found {self.epochs}")
        if self.batch_tokens < 1:
            raise ValueError(f"batch_tokens must be positive, found {self.batch_tokens}")
        if not 0 <= self.warmup_share <= 1:
            raise ValueError(f"warmup_share must be between 0 and 1, found {self.warmup_share}")
        if self.weight_decay < 0 or self.max_grad_norm <= 0:
            raise ValueError("weight_decay must be 0 or more and max_grad_norm over 0")


@dataclass(frozen=True, kw_only=True)
class LearningSettings(TrainingSettings):
    """How a round learns from what the filter kept."""

    when_not_finite: ClassVar[str] = "lower learning.learning_rate, or look at those trajectories in the warehouse"

    objective: Annotated[Literal["cloning"], "What is learnt: cloning imitates the kept solutions."] = "cloning"
    start: Annotated[
        Literal["initial", "champion"], "Which weights a round starts from: the initial policy's or the champion's."
    ] = "champion"
    epochs: Annotated[float, "Passes over the solutions; a part of one is allowed."] = 3.0
    learning_rate: Annotated[float, "Peak learning rate (AdamW)."] = 2e-3
    fade: Annotated[float, "Share of the passes left to a solution with each round of age; 1: all are alike."] = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.fade <= 1:
            raise ValueError(f"fade is {self.fade}; expected over 0, only the newest count, to 1, all count the same")


@dataclass(frozen=True, kw_only=True)
class InitializationSettings(TrainingSettings):
    """How the first policy is made from demonstrations."""

    when_not_finite: ClassVar[str] = "lower initialization.learning_rate, or look at those demonstrations"

    demonstrations: Annotated[int, "Goal-blind Countdown demonstrations that are made for a scratch policy."] = 40_000
    behaviour_share: Annotated[float, "Share of them that shows alternatives, checks or corrections."] = 0.1
    file: Annotated[str, "JSONL of prompt and completion to fine-tune on first; empty: none."] = ""
    epochs: Annotated[float, "Passes over the demonstrations; a part of one is allowed."] = 1.0
    learning_rate: Annotated[float, "Peak learning rate (AdamW)."] = 1.5e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.demonstrations < 1:
            raise ValueError(f"demonstrations is {self.demonstrations}; expected at least 1")
        if not 0 <= self.behaviour_share <= 1:
            raise ValueError(f"behaviour_share is {self.behaviour_share}; expected 0 to 1")
