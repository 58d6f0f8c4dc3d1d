"""What may be chosen about learning. Imports no torch, so that a configuration is checked at once."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

CLONING: Literal["cloning"] = "cloning"
"""The objective that imitates, and learns from right answers alone."""
ObjectiveName = Literal["cloning", "dpo", "reinforce", "grpo", "dr_grpo", "dapo"]
GRADIENTS = ("reinforce", "grpo", "dr_grpo", "dapo")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How weights are changed."""

    when_not_finite: ClassVar[str] = "lower learning_rate, or look at those examples"
    """What to do about a loss that is not finite."""
    when_no_memory: ClassVar[str] = "lower batch_tokens, or leave out long examples"
    """What to do where the memory does not hold a batch."""

    learning_rate: Annotated[float, "Peak learning rate (AdamW)."] = 1e-3
    epochs: Annotated[float, "Passes over the examples; a part of one is allowed."] = 2.0
    batch_tokens: Annotated[int, "Most tokens in a batch, prompts and padding included."] = 512
    forward_tokens: Annotated[
        int, "Most tokens computed at once, where a batch is too much for the memory; 0: all."
    ] = 0
    recompute: Annotated[
        bool, "Compute a layer's activations again for its gradient, and keep none: less memory, a third more time."
    ] = False
    precision: Annotated[
        Literal["float32", "bfloat16"], "What matrices are multiplied in; weights and optimizer stay float32."
    ] = "float32"
    tensorboard: Annotated[bool, "Write each step for TensorBoard too, to the folder tensorboard of the home."] = False
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
        if self.forward_tokens < 0:
            raise ValueError(f"forward_tokens must be 0, for a whole batch, or positive, found {self.forward_tokens}")
        if not 0 <= self.warmup_share <= 1:
            raise ValueError(f"warmup_share must be between 0 and 1, found {self.warmup_share}")
        if self.weight_decay < 0 or self.max_grad_norm <= 0:
            raise ValueError("weight_decay must be 0 or more and max_grad_norm over 0")


@dataclass(frozen=True, kw_only=True)
class LearningSettings(TrainingSettings):
    """How a round learns from what the filter kept."""

    when_not_finite: ClassVar[str] = "lower learning.learning_rate, or look at those trajectories in the warehouse"
    when_no_memory: ClassVar[str] = "lower learning.forward_tokens, or policy.max_new_tokens where answers are as long"

    objective: Annotated[
        ObjectiveName,
        "What is learnt: cloning imitates the kept solutions, dpo prefers right to wrong, the others are policy "
        "gradients.",
    ] = "cloning"
    warm_up_rounds: Annotated[int, "Rounds that clone before another objective takes over."] = 0
    start: Annotated[
        Literal["last", "champion", "initial"],
        "Which weights a round starts from; last: the last candidate's, unless it was significantly worse than the "
        "champion.",
    ] = "last"
    epochs: Annotated[float, "Passes over the solutions; a part of one is allowed."] = 3.0
    learning_rate: Annotated[float, "Peak learning rate (AdamW)."] = 2e-3
    fade: Annotated[
        float, "Share of the passes left to a solution with each round since a policy last wrote it; 1: all are alike."
    ] = 0.7
    lora_rank: Annotated[
        int, "Rank of LoRA adapters that learn in the weights' place and are merged into them; 0: the weights learn."
    ] = 0
    keep_adapters: Annotated[
        bool,
        "Whether a checkpoint is its adapters alone, beside the whole weights that they belong to, rather than such "
        "weights with them in.",
    ] = False
    processes: Annotated[
        int, "Processes that train together, one a GPU, each with a part of all weights (FSDP); 1: no others."
    ] = 1
    refining_rate: Annotated[float, "Objectives but cloning: their peak learning rate, as a share of cloning's."] = 0.1
    refining_epochs: Annotated[float, "Objectives but cloning: passes over pairs or attempts."] = 1.0
    window: Annotated[int, "Objectives but cloning: newest rounds whose attempts they learn from."] = 1
    on_policy_steps: Annotated[
        int,
        "Policy gradients: steps that each sample problems anew with the weights of then; 0: of the round's attempts.",
    ] = 0
    group: Annotated[int, "On policy: attempts at a problem that are compared."] = 8
    group_problems: Annotated[int, "On policy: problems sampled a step."] = 64
    beta: Annotated[float, "dpo: how little the policy may stray from where it starts."] = 0.1
    nll_weight: Annotated[float, "dpo: weight of the chosen answer's own likelihood (iterative RPO)."] = 1.0
    pair_margin: Annotated[
        float, "dpo: by how much the shares of right ends of two steps must differ, to make a pair."
    ] = 0.5
    max_pairs: Annotated[int, "dpo: most pairs of a problem of a kind, steps or whole answers."] = 4
    kl_weight: Annotated[float, "Policy gradients: weight of the divergence from where they start; 0: none."] = 0.0
    importance_cap: Annotated[
        float, "Policy gradients: most that a token counts which the policy now writes more often than it was sampled."
    ] = 2.0
    credit: Annotated[
        Literal["outcome", "steps"],
        "Policy gradients: what a token is worth: its answer's outcome beside the others', or how far its step of a "
        "tree moved the share of right ends.",
    ] = "outcome"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.fade <= 1:
            raise ValueError(f"fade is {self.fade}; expected over 0, only the newest count, to 1, all count the same")
        if not 0 < self.refining_rate <= 1:
            raise ValueError(f"refining_rate is {self.refining_rate}; expected over 0 to 1, as fast as cloning")
        if not 0 < self.refining_epochs <= 1000:
            raise ValueError(f"refining_epochs must be over 0 and at most 1000, found {self.refining_epochs}")
        if self.lora_rank < 0:
            raise ValueError(f"lora_rank is {self.lora_rank}; expected 0, no adapters, or a rank as 16")
        if self.keep_adapters and not self.lora_rank:
            raise ValueError("keep_adapters asks for adapters: set lora_rank, as to 16")
        if self.processes < 1:
            raise ValueError(f"processes is {self.processes}; expected at least 1")
        if self.warm_up_rounds < 0 or self.window < 1 or self.max_pairs < 1:
            raise ValueError("warm_up_rounds must be 0 or more, window and max_pairs at least 1")
        if self.beta <= 0 or self.nll_weight < 0 or self.kl_weight < 0 or self.importance_cap <= 0:
            raise ValueError("beta and importance_cap must be over 0, nll_weight and kl_weight 0 or more")
        if self.on_policy_steps < 0 or self.group < 2 or self.group_problems < 1:
            raise ValueError("on_policy_steps must be 0 or more, group at least 2 and group_problems at least 1")
        if not 0 < self.pair_margin <= 1:
            raise ValueError(f"pair_margin is {self.pair_margin}; expected over 0 to 1")

    @property
    def is_gradient(self) -> bool:
        """Whether it follows a policy gradient."""
        return self.objective in GRADIENTS

    @property
    def is_on_policy(self) -> bool:
        """Whether it samples for itself while it learns."""
        return self.is_gradient and self.on_policy_steps > 0

    @property
    def goes_on(self) -> bool:
        """Whether it starts from the last candidate rather than from the champion."""
        return self.start == "last"

    def at(self, round: int) -> "LearningSettings":
        """What a round does: its objective, and that one's learning rate and passes."""
        return replace(self, objective=CLONING) if round <= self.warm_up_rounds else self.refined()

    def refined(self) -> "LearningSettings":
        """What is done after the warm-up."""
        if self.objective == CLONING:
            return self
        return replace(self, learning_rate=self.learning_rate * self.refining_rate, epochs=self.refining_epochs)


@dataclass(frozen=True, kw_only=True)
class InitializationSettings(TrainingSettings):
    """How the first policy is made from demonstrations."""

    when_not_finite: ClassVar[str] = "lower initialization.learning_rate, or look at those demonstrations"
    when_no_memory: ClassVar[str] = "lower initialization.forward_tokens, or leave out long demonstrations"

    demonstrations: Annotated[int, "Goal-blind Countdown demonstrations that are made for a scratch policy."] = 60_000
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
