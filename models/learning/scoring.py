"""Log-probabilities of what is learnt, at the temperature that sampled it."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from models.learning.batches import IGNORED, Batch, Example, collate, cut


def target_logits(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Logits of every place that has a target in some row, divided by the temperature. (rows, places, vocabulary)."""
    num_places = batch.targets.shape[1]
    only: dict[str, Any] = {"logits_to_keep": num_places} if _can_leave_out(type(model)) else {}
    logits: torch.Tensor = model(input_ids=batch.input_ids, use_cache=False, **only).logits[:, -num_places:].float()
    return logits if batch.temperatures is None else logits / batch.temperatures.view(-1, 1, 1)


def target_logprobs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the targets, 0 where there is none. (rows, places, vocabulary) -> (rows, places)."""
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return -losses.view_as(targets)


@torch.no_grad()
def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Of each place's distribution, nats. (rows, places, vocabulary) -> (rows, places)."""
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


@torch.inference_mode()
def with_old(model: PreTrainedModel, examples: Sequence[Example], batch_tokens: int) -> list[Example]:
    """The same examples with the log-probabilities of the policy as it is now."""
    places = sorted(range(len(examples)), key=lambda place: examples[place].num_tokens)
    scored: list[Example] = []
    for units in cut([(examples[place],) for place in places], batch_tokens):
        batch = collate(units, model.device)
        rows = target_logprobs(target_logits(model, batch), batch.targets).tolist()
        for (example,), row, targets in zip(units, rows, batch.targets.tolist(), strict=True):
            old = tuple(number for number, target in zip(row, targets, strict=True) if target != IGNORED)
            scored.append(replace(example, old=old))
    at_place = dict(zip(places, scored, strict=True))
    return [at_place[place] for place in range(len(examples))]


def _can_leave_out(kind: type[PreTrainedModel]) -> bool:
    """Whether a model can be asked for the logits of the last places alone."""
    return "logits_to_keep" in inspect.signature(kind.forward).parameters
