"""Fine-tunes the policy of a folder: weights in, better weights out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from models.learning.adapters import adapted
from models.learning.batches import Unit, longest
from models.learning.cloning import Cloning
from models.learning.draft import Draft
from models.learning.examples import Attempt, Pair, Solution, from_attempts, from_pairs, from_solutions, from_texts
from models.learning.hardware import in_precision
from models.learning.objective import Objective
from models.learning.objectives import GRADIENT_KINDS, open_objective
from models.learning.on_policy import Sample, follow
from models.learning.ranks import all_of, mine
from models.learning.scoring import with_old
from models.learning.settings import InitializationSettings, LearningSettings, TrainingSettings
from models.learning.trainer import OnStep, Say, TrainingReport, train
from models.memory import Memory
from models.policy.chat import spoken
from models.policy.load import Policy, load_policy, move, save_policy
from models.policy.prompting import context_length
from models.policy.scratch import build_model, build_tokenizer
from models.policy.settings import Chat, ScratchSettings

Lessons = Sequence[Solution] | Sequence[Pair] | Sequence[Attempt]
"""What an objective learns from: cloning from solutions, dpo from pairs, policy gradients from attempts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A policy in memory, and how it came to be."""

    policy: Policy
    report: TrainingReport
    num_examples: int

    def save(self, folder: Path) -> None:
        """Write an ordinary Hugging Face folder."""
        save_policy(self.policy, folder)


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """Who is told how a training goes, and where it is kept meanwhile."""

    on_step: OnStep = lambda step: None
    on_wait: Callable[[], None] = lambda: None
    """Called while others work; what it raises ends them."""
    say: Say = lambda text: None
    draft: Draft | None = None


UNWATCHED = Watch()


def finetune(
    parent: Path,
    lessons: Lessons,
    settings: LearningSettings,
    *,
    seed: int,
    device: str,
    max_new_tokens: int,
    watch: Watch = UNWATCHED,
) -> Trained:
    """Train the policy of a folder on what suits the objective; `max_new_tokens` is how long an answer may be.

    Raises ValueError on nothing to learn from, NonFiniteLossError and NoMemoryError.
    """
    policy = load_policy(parent, device=device, merge=not settings.keep_adapters)
    objective = open_objective(settings, max_new_tokens)
    units = read(policy, lessons, settings, max_new_tokens)
    if objective.needs_old:
        units = remember(policy, units, settings, watch.say)
    with adapted(policy.model, settings.lora_rank, seed=seed, keep=settings.keep_adapters):
        return _train(policy, units, objective, settings, seed, watch)


def finetune_on_policy(
    parent: Path,
    sample: Sample,
    settings: LearningSettings,
    *,
    seed: int,
    device: str,
    max_new_tokens: int,
    max_rows: int,
    watch: Watch = UNWATCHED,
) -> Trained:
    """Train the policy of a folder by a policy gradient on what it samples meanwhile, `max_rows` texts side by side."""
    policy = load_policy(parent, device=device, merge=not settings.keep_adapters)
    with adapted(policy.model, settings.lora_rank, seed=seed, keep=settings.keep_adapters):
        report = follow(
            policy,
            sample,
            lambda attempts: read(policy, attempts, settings, max_new_tokens),
            open_objective(settings, max_new_tokens),
            settings,
            seed=seed,
            max_rows=max_rows,
            on_step=watch.on_step,
            say=watch.say,
            draft=watch.draft,
        )
    return Trained(policy=policy, report=report, num_examples=sum(step.num_examples for step in report.steps))


def read(policy: Policy, lessons: Lessons, settings: LearningSettings, max_new_tokens: int) -> list[Unit]:
    """What the trainer reads, as the objective wants it."""
    if settings.objective == "cloning":
        return from_solutions(policy.tokenizer, cast(Sequence[Solution], lessons))
    if settings.objective == "dpo":
        return from_pairs(policy.tokenizer, cast(Sequence[Pair], lessons))
    kind = GRADIENT_KINDS[settings.objective]
    return from_attempts(
        policy.tokenizer,
        cast(Sequence[Attempt], lessons),
        baseline=kind.baseline,
        by_steps=settings.credit == "steps",
        longest=max_new_tokens,
        overlong_tokens=round(kind.overlong_share * max_new_tokens),
    )


def remember(policy: Policy, units: Sequence[Unit], settings: TrainingSettings, say: Say) -> list[Unit]:
    """The same with the log-probabilities of the policy before it learns."""
    examples = [example for unit in units for example in unit]
    memory = Memory(settings.forward_tokens or settings.batch_tokens, say, settings.when_no_memory)
    with in_precision(policy.model, settings):
        scored = iter(all_of(memory.hold(partial(with_old, policy.model, mine(examples)))))
    return [tuple(next(scored) for _ in unit) for unit in units]


def imitate(
    parent: Path,
    texts: Sequence[tuple[str, str]],
    settings: InitializationSettings,
    *,
    seed: int,
    device: str,
    chat: Chat = "auto",
    watch: Watch = UNWATCHED,
) -> Trained:
    """Supervised fine-tuning of the policy of a folder on pairs of prompt and answer, asked as `chat` says."""
    policy = load_policy(parent, device=device)
    spoken(policy.tokenizer, chat)
    return _train(policy, from_texts(policy.tokenizer, texts), Cloning(), settings, seed, watch)


def build_from_scratch(
    texts: Sequence[tuple[str, str]],
    characters: str,
    settings: InitializationSettings,
    shape: ScratchSettings,
    *,
    seed: int,
    device: str,
    watch: Watch = UNWATCHED,
) -> Trained:
    """A small policy that learns to write from pairs of prompt and answer; `characters` are in its vocabulary too."""
    tokenizer = build_tokenizer([characters, *(prompt + answer for prompt, answer in texts)], context=shape.context)
    policy = Policy(move(build_model(shape, tokenizer, seed=seed), device), tokenizer)
    return _train(policy, from_texts(tokenizer, texts), Cloning(), settings, seed, watch)


def require_room(units: Sequence[Unit], context: int | None) -> None:
    """Raises ValueError where an example is longer than the model's context."""
    largest = max(units, key=longest, default=None)
    if context and largest and longest(largest) > context:
        raise ValueError(
            f"{largest[0].name} has {longest(largest):,} tokens, more than the policy's context of {context:,}: raise "
            f"scratch.context of a policy from scratch, or leave out what is as long"
        )


def _train(
    policy: Policy,
    units: Sequence[Unit],
    objective: Objective,
    settings: TrainingSettings,
    seed: int,
    watch: Watch,
) -> Trained:
    require_room(units, context_length(policy.model))
    report = train(
        policy.model,
        units,
        objective,
        settings,
        seed=seed,
        on_step=watch.on_step,
        say=watch.say,
        draft=watch.draft,
    )
    return Trained(policy=policy, report=report, num_examples=len(units))
