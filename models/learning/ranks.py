"""The processes that train together, where there are several: which this is, its part of the work and of the weights.

Each holds a part of every weight, gradient and moment of the optimizer (FSDP, Zhao et al. 2023, arXiv 2304.11277, as
torch's `fully_shard`), and computes its part of each batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain, zip_longest
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

T = TypeVar("T")


def num_ranks() -> int:
    """How many processes train together; 1 where this one is alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this process is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def mine(items: Sequence[T]) -> Sequence[T]:
    """This process's part."""
    return items[rank() :: num_ranks()]


def together(part: T) -> list[T]:
    """What each process has, by rank; all must ask at once."""
    if num_ranks() == 1:
        return [part]
    parts: list[T | None] = [None] * num_ranks()
    dist.all_gather_object(parts, part)
    return parts  # type: ignore[return-value]  # all are there


def all_of(part: Sequence[T]) -> list[T]:
    """The items of which each process has its part, in order."""
    absent = object()
    turns = zip_longest(*together(part), fillvalue=absent)
    return [item for item in chain.from_iterable(turns) if item is not absent]  # type: ignore[misc]  # no fill value


def whole(number: torch.Tensor) -> float:
    """A number that may be spread over the processes."""
    return (number.full_tensor() if isinstance(number, DTensor) else number).item()


@contextmanager
def shared(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """The model, its weights spread over the processes; afterwards the first one's is whole, and has learnt."""
    if num_ranks() == 1:
        yield model
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.fsdp import fully_shard

    device, is_first = model.device, rank() == 0
    spread = deepcopy(model.cpu()) if is_first else model  # which fully_shard moves to the mesh's device
    layers = [module for module in spread.modules() if type(module).__name__ in (model._no_split_modules or ())]
    mesh = init_device_mesh(device.type, (num_ranks(),))
    for module in (*layers, spread):
        fully_shard(module, mesh=mesh)
    yield spread
    learnt = get_model_state_dict(spread, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if is_first:
        model.load_state_dict(learnt)
