"""What is learnt from, and how it is cut into the batches of a training: like lengths together, padding bounded."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from models.learning.settings import TrainingSettings

IGNORED = -100
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A prompt and the tokens to learn: `Example(name="t9…", prompt_ids=(4, 7), completion_ids=(9, 1))`.

    The tuples of floats have a number a token of the completion, or are empty where the objective asks for none.
    """

    name: str
    """Names it in errors: a trajectory id, or a demonstration's number."""
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    share: float = 1.0
    """Of the passes it takes part in this share, drawn by lot."""
    temperature: float = 1.0
    """Its log-probabilities are taken at this temperature, the one that sampled it."""
    advantages: tuple[float, ...] = ()
    """What each token is worth beside what was expected; of cloning, its weight."""
    sampled: tuple[float, ...] = ()
    """Log-probabilities as the sampler recorded them."""
    old: tuple[float, ...] = ()
    """Log-probabilities under the policy before it learnt from this."""
    reference: tuple[float, ...] = ()
    """Log-probabilities under the policy that it should stay near; empty: the old one."""

    def __post_init__(self) -> None:
        assert self.prompt_ids and self.completion_ids, f"{self.name} has an empty prompt or nothing to learn"
        for numbers in (self.advantages, self.sampled, self.old, self.reference):
            assert len(numbers) in (0, len(self.completion_ids)), (
                f"{self.name} has {len(numbers)} numbers for its tokens"
            )

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


Unit = tuple[Example, ...]
"""Examples that must share a batch: one alone, or chosen and rejected of a pair."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Examples side by side, padded on the right, where causal attention never looks.

    `targets` and the numbers of their tokens are (rows, places), the last places of the time, for the first ones
    are prompt in every row; where a row has no target they are IGNORED and 0.
    """

    names: tuple[str, ...]
    input_ids: torch.Tensor
    """(rows, time)"""
    targets: torch.Tensor
    """The next token, or IGNORED on prompts and padding."""
    num_tokens: int
    """Padding not counted."""
    temperatures: torch.Tensor | None
    """(rows,), or None where all are 1."""
    advantages: torch.Tensor | None
    sampled: torch.Tensor | None
    old: torch.Tensor | None
    reference: torch.Tensor | None

    @property
    def mask(self) -> torch.Tensor:
        """1 where there is something to learn."""
        return (self.targets != IGNORED).float()


def plan_batches(units: Sequence[Unit], settings: TrainingSettings, *, seed: int) -> list[list[Unit]]:
    """Every batch of the training, in order: of like lengths within, shuffled among themselves."""
    if not units:
        raise ValueError("there is nothing to learn from: nothing was selected, or all of it is worth the same")
    rng = random.Random(seed)
    batches: list[list[Unit]] = []
    for epoch in range(math.ceil(settings.epochs)):
        drawn = _draw(units, min(1.0, settings.epochs - epoch), rng)
        batches_of_epoch = list(cut(sorted(drawn, key=longest), settings.batch_tokens))
        rng.shuffle(batches_of_epoch)
        batches += batches_of_epoch
    return batches or [[rng.choice(units)]]


def _draw(units: Sequence[Unit], share: float, rng: random.Random) -> list[Unit]:
    """In random order, each by the chance of its share of that share, as many as the chances add up to."""
    drawn, sum_of_chances = [], rng.random()
    for unit in rng.sample(units, len(units)):
        before, sum_of_chances = sum_of_chances, sum_of_chances + share * unit[0].share
        if math.floor(sum_of_chances) > math.floor(before):
            drawn.append(unit)
    return drawn


def cut(units: Sequence[Unit], batch_tokens: int) -> Iterator[list[Unit]]:
    """Batches, from shorter to longer, of at most `batch_tokens`, padding counted; a longer unit goes alone."""
    batch: list[Unit] = []
    num_rows = 0
    for unit in units:
        if batch and (num_rows + len(unit)) * longest(unit) > batch_tokens:
            yield batch
            batch, num_rows = [], 0
        batch.append(unit)
        num_rows += len(unit)
    if batch:
        yield batch


def longest(unit: Unit) -> int:
    """Tokens of a unit's longest example."""
    return max(example.num_tokens for example in unit)


def collate(units: Sequence[Unit], device: torch.device) -> Batch:
    """Pad a batch on the right; targets are the tokens after, where they are to be learnt."""
    rows = [example for unit in units for example in unit]
    time = max(example.num_tokens for example in rows)
    first = min(len(example.prompt_ids) for example in rows) - 1

    def placed(numbers: Sequence[tuple[T, ...]], filler: T) -> list[list[T]]:
        """Numbers of completions where their targets stand, in rows of one length."""
        return [
            _filled([filler] * (len(example.prompt_ids) - 1 - first) + list(of_row), time - first, filler)
            for example, of_row in zip(rows, numbers, strict=True)
        ]

    def spread(numbers: Sequence[tuple[float, ...]]) -> torch.Tensor | None:
        """The same as a tensor; None where no row has any."""
        return torch.tensor(placed(numbers, 0.0), device=device) if any(numbers) else None

    ids = [_filled([*example.prompt_ids, *example.completion_ids], time, 0) for example in rows]
    targets = placed([example.completion_ids for example in rows], IGNORED)
    are_plain = all(example.temperature == 1 for example in rows)
    return Batch(
        names=tuple(example.name for example in rows),
        input_ids=torch.tensor(ids, device=device),
        targets=torch.tensor(targets, device=device),
        num_tokens=sum(example.num_tokens for example in rows),
        temperatures=None if are_plain else torch.tensor([example.temperature for example in rows], device=device),
        advantages=spread([example.advantages for example in rows]),
        sampled=spread([example.sampled for example in rows]),
        old=spread([example.old for example in rows]),
        reference=spread([example.reference for example in rows]),
    )


def _filled(numbers: list[T], length: int, filler: T) -> list[T]:
    return numbers + [filler] * (length - len(numbers))
