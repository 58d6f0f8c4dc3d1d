"""A small model's batch computed side by side on a CPU: a part on each core, whose gradients add up to the batch's.

Its products are too small to be divided among cores, and in between them cores wait for one another: two cores compute
a batch of 512 tokens of the default policy 1.1 times as fast as one, but 1.3 times so, a part each.
"""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import TypeVar

import torch
from transformers import PreTrainedModel

from models.learning.settings import TrainingSettings

T = TypeVar("T")
Part = TypeVar("Part")

MOST_WEIGHTS = 4_000_000
"""Beyond it products are large enough to be divided (measured at 3 and 12 million)."""
LEAST_TOKENS = 256
"""Of a part: less is not worth a core of its own."""


class Crew:
    """A model and its twins, which have its weights and gradients of their own: `Crew(model, 2).backward(work, parts)`.

    `size` of 1 is the model alone.
    """

    def __init__(self, model: PreTrainedModel, size: int) -> None:
        self._models = [model, *(_twin(model) for _ in range(size - 1))]
        self._threads = max(1, torch.get_num_threads() // size)
        self._pool = ThreadPoolExecutor(size, initializer=torch.set_num_threads, initargs=(self._threads,))

    def backward(self, work: Callable[[PreTrainedModel, Sequence[Part]], T], items: Sequence[Part]) -> list[T]:
        """What `work` gives of each part of the items, whose gradients it adds to a model's; the sum is the first's."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)  # more would wait for their next work on the cores of others
        parts = [part for part in _divide(items, len(self._models)) if part]
        if len(parts) == 1:
            return [work(self._models[0], parts[0])]
        at_work = [self._pool.submit(work, *each) for each in zip(self._models, parts, strict=False)]
        wait(at_work)  # all, or a failure would leave others at it
        try:
            return [each.result() for each in at_work]
        finally:
            self._add_up()

    def _add_up(self) -> None:
        own = list(self._models[0].parameters())
        for twin in self._models[1:]:
            for weights, its in zip(own, twin.parameters(), strict=True):
                if its.grad is not None:
                    weights.grad = its.grad if weights.grad is None else weights.grad.add_(its.grad)
                    its.grad = None


def crew_size(model: PreTrainedModel, settings: TrainingSettings, num_processes: int) -> int:
    """How many parts of a batch are worth a core each."""
    is_alone = model.device.type == "cpu" and num_processes == 1
    draws = any("drop" in name and value for name, value in model.config.to_dict().items())  # in an order of threads'
    if not is_alone or draws or settings.precision != "float32" or model.num_parameters() > MOST_WEIGHTS:
        return 1
    tokens = settings.forward_tokens or settings.batch_tokens
    return max(1, min(torch.get_num_threads(), tokens // LEAST_TOKENS))


def _twin(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in the same memory, with gradients of their own."""
    memo: dict[int, object] = {id(model.config): model.config}
    for weights in model.parameters():
        memo[id(weights)] = torch.nn.Parameter(weights.detach(), requires_grad=weights.requires_grad)
    return copy.deepcopy(model, memo)


def _divide(items: Sequence[Part], num_parts: int) -> list[Sequence[Part]]:
    """In order, alike in number."""
    ends = [len(items) * place // num_parts for place in range(num_parts + 1)]
    return [items[start:end] for start, end in pairwise(ends)]
