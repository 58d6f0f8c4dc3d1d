"""One training loop under every objective: token-budget batches, warm-up and decay, clipping.

It changes a model's weights in memory and reports; reading examples and saving
checkpoints are others' work. A non-finite loss or gradient stops it before the
step that would have spoilt the weights.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import torch
from transformers import PreTrainedModel

from models.learning.settings import TrainingSettings


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient is NaN or infinite."""


class StoppedError(RuntimeError):
    """Someone asked the work to stop; nothing was kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A prompt and the tokens to learn: `Example(name="t9…", prompt_ids=(4, 7), completion_ids=(9, 1))`."""

    name: str
    """Names it in errors: a trajectory id, or a demonstration's number."""
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    share: float = 1.0
    """Of the passes it takes part in this share, drawn by lot."""

    def __post_init__(self) -> None:
        assert self.prompt_ids and self.completion_ids, f"{self.name} has an empty prompt or nothing to learn"

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Examples side by side, padded on the right, where causal attention never looks."""

    names: tuple[str, ...]
    input_ids: torch.Tensor  # (batch, time)
    targets: torch.Tensor  # (batch, time), the next token, or IGNORED on prompts and padding
    num_tokens: int


IGNORED = -100
PLAIN_SCORES = 2**17
"""Attention scores of a head and a batch up to which a CPU is quicker without fused blocks (measured).

Plain products keep every score of every layer, which in large batches is gigabytes.
"""


class Objective(Protocol):
    """What is minimised: a mean over the batch's learnt tokens."""

    def __call__(self, model: PreTrainedModel, batch: Batch) -> torch.Tensor: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingReport:
    """What a training did: `TrainingReport(loss=0.41, num_steps=310, num_tokens=1_200_000, seconds=31.0)`."""

    loss: float
    """Mean over the last tenth of the steps, nats a token."""
    num_steps: int
    num_tokens: int
    seconds: float


def train(
    model: PreTrainedModel,
    examples: Sequence[Example],
    objective: Objective,
    settings: TrainingSettings,
    *,
    seed: int,
    on_step: Callable[[int, int, float], None] = lambda done, total, loss: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingReport:
    """Change the model's weights by the objective. `on_step(tokens done, tokens in all, loss)` after each step.

    Raises ValueError when there is nothing to learn from, NonFiniteLossError, and StoppedError when asked to stop.
    """
    plan = plan_batches(examples, settings, seed=seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=settings.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, len(plan), settings.warmup_share))
    total = sum(example.num_tokens for rows in plan for example in rows)
    started, done, losses = monotonic(), 0, []
    longest = max(example.num_tokens for example in examples)
    with _training(model, seed, num_scores=longest * max(longest, settings.batch_tokens)):
        for rows in plan:
            if should_stop():
                raise StoppedError("training was asked to stop")
            batch = collate(rows, model.device)
            losses.append(_update(model, batch, objective, optimizer, settings))
            schedule.step()
            done += batch.num_tokens
            on_step(done, total, losses[-1])
    last = losses[-max(1, len(losses) // 10) :]
    return TrainingReport(
        loss=sum(last) / len(last), num_steps=len(plan), num_tokens=done, seconds=monotonic() - started
    )


@contextmanager
def _training(model: PreTrainedModel, seed: int, num_scores: int) -> Iterator[None]:
    """The model in training mode, what it drops keyed by the seed; afterwards all is as before."""
    attention = model.config._attn_implementation
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        model.train()
        if model.device.type == "cpu" and num_scores <= PLAIN_SCORES:
            model.set_attn_implementation("eager")
        try:
            yield
        finally:
            model.set_attn_implementation(attention)
            model.eval()


def plan_batches(examples: Sequence[Example], settings: TrainingSettings, *, seed: int) -> list[list[Example]]:
    """Every batch of the training, in order: of like lengths within, shuffled among themselves."""
    if not examples:
        raise ValueError("there is nothing to learn from: no example was selected")
    rng = random.Random(seed)
    batches: list[list[Example]] = []
    for epoch in range(math.ceil(settings.epochs)):
        drawn = _draw(examples, min(1.0, settings.epochs - epoch), rng)
        cut = list(_cut(sorted(drawn, key=lambda example: example.num_tokens), settings.batch_tokens))
        rng.shuffle(cut)
        batches += cut
    return batches or [[rng.choice(examples)]]


def _draw(examples: Sequence[Example], share: float, rng: random.Random) -> list[Example]:
    """In random order, each by the chance of its share of that share, as many as the chances add up to."""
    drawn, sum_of_chances = [], rng.random()
    for example in rng.sample(examples, len(examples)):
        before, sum_of_chances = sum_of_chances, sum_of_chances + share * example.share
        if math.floor(sum_of_chances) > math.floor(before):
            drawn.append(example)
    return drawn


def _cut(examples: Sequence[Example], batch_tokens: int) -> Iterator[list[Example]]:
    """Batches, from shorter to longer, of at most `batch_tokens`, padding counted; a longer example goes alone."""
    batch: list[Example] = []
    for example in examples:
        if batch and (len(batch) + 1) * example.num_tokens > batch_tokens:
            yield batch
            batch = []
        batch.append(example)
    if batch:
        yield batch


def collate(examples: Sequence[Example], device: torch.device) -> Batch:
    """Pad a batch on the right; targets are the tokens after, where they are to be learnt."""
    longest = max(example.num_tokens for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    targets = torch.full((len(examples), longest), IGNORED)
    for row, example in enumerate(examples):
        tokens = torch.tensor(example.prompt_ids + example.completion_ids)
        first = len(example.prompt_ids)
        ids[row, : len(tokens)] = tokens
        targets[row, first - 1 : len(tokens) - 1] = tokens[first:]
    return Batch(
        names=tuple(example.name for example in examples),
        input_ids=ids.to(device),
        targets=targets.to(device),
        num_tokens=sum(example.num_tokens for example in examples),
    )


def _update(
    model: PreTrainedModel,
    batch: Batch,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    settings: TrainingSettings,
) -> float:
    """One step of the optimizer; the weights are untouched when anything is not finite."""
    loss = objective(model, batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
    if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
        names = ", ".join(batch.names[:5])
        raise NonFiniteLossError(
            f"loss {loss.item():g}, gradient norm {norm.item():g} in the batch of {len(batch.names)} examples that "
            f"begins {names}: {settings.when_not_finite}"
        )
    optimizer.step()
    return loss.item()


def _rate(step: int, num_steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate: a linear rise, then a cosine to zero."""
    warmup = round(num_steps * warmup_share)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup)))
