"""Fine-tunes the policy of a folder: weights in, better weights out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.learning.cloning import cloning_loss
from models.learning.examples import Solution, from_solutions, from_texts
from models.learning.settings import InitializationSettings, LearningSettings, TrainingSettings
from models.learning.trainer import Example, Objective, TrainingReport, train
from models.policy.load import Policy, load_policy, move, save_policy
from models.policy.prompting import context_length
from models.policy.scratch import build_model, build_tokenizer
from models.policy.settings import ScratchSettings

OBJECTIVES: dict[str, Objective] = {"cloning": cloning_loss}
"""Name to objective."""

OnStep = Callable[[int, int, float], None]
"""Told tokens done, tokens in all and the loss after each step; what it raises ends the training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A policy in memory, and how it came to be."""

    policy: Policy
    report: TrainingReport
    num_examples: int

    def save(self, folder: Path) -> None:
        """Write an ordinary Hugging Face folder."""
        save_policy(self.policy, folder)


def finetune(
    parent: Path,
    solutions: Sequence[Solution],
    settings: LearningSettings,
    *,
    seed: int,
    device: str,
    on_step: OnStep,
) -> Trained:
    """Train the policy of a folder on solutions. Raises ValueError on none, NonFiniteLossError."""
    policy = load_policy(parent, device=device)
    examples = from_solutions(policy.tokenizer, solutions)
    return _train(policy, examples, OBJECTIVES[settings.objective], settings, seed, on_step)


def imitate(
    parent: Path,
    texts: Sequence[tuple[str, str]],
    settings: InitializationSettings,
    *,
    seed: int,
    device: str,
    on_step: OnStep,
) -> Trained:
    """Supervised fine-tuning of the policy of a folder on pairs of prompt and answer."""
    policy = load_policy(parent, device=device)
    return _train(policy, from_texts(policy.tokenizer, texts), cloning_loss, settings, seed, on_step)


def build_from_scratch(
    texts: Sequence[tuple[str, str]],
    characters: str,
    settings: InitializationSettings,
    shape: ScratchSettings,
    *,
    seed: int,
    device: str,
    on_step: OnStep,
) -> Trained:
    """A small policy that learns to write from pairs of prompt and answer; `characters` are in its vocabulary too."""
    tokenizer = build_tokenizer([characters, *(prompt + answer for prompt, answer in texts)], context=shape.context)
    policy = Policy(move(build_model(shape, tokenizer, seed=seed), device), tokenizer)
    return _train(policy, from_texts(tokenizer, texts), cloning_loss, settings, seed, on_step)


def require_room(examples: Sequence[Example], context: int | None) -> None:
    """Raises ValueError where an example is longer than the model's context."""
    longest = max(examples, key=lambda example: example.num_tokens, default=None)
    if context and longest and longest.num_tokens > context:
        raise ValueError(
            f"{longest.name} has {longest.num_tokens:,} tokens, more than the policy's context of {context:,}: raise "
            f"scratch.context, or leave out what is as long"
        )


def _train(
    policy: Policy,
    examples: Sequence[Example],
    objective: Objective,
    settings: TrainingSettings,
    seed: int,
    on_step: OnStep,
) -> Trained:
    require_room(examples, context_length(policy.model))
    report = train(policy.model, examples, objective, settings, seed=seed, on_step=on_step)
    return Trained(policy=policy, report=report, num_examples=len(examples))
