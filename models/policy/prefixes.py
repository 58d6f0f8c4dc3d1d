"""Keys and values of texts that may be continued, so that a tree pays for each prefix once.

They lie in one buffer a layer that is written round and round, so that the oldest make room. A text is a few
stretches of it: what it shares with the text that it continues, and what it adds.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.cache_utils import Cache

from models.policy.cache import SpareLayer

MOST_BYTES = 1 << 29
GPU_SHARE, FREE_SHARE = 1 / 8, 1 / 4
"""What it takes at most: of a GPU's memory the one share, and of what is free of it the other."""

Tokens = tuple[int, ...]


class Stretch(NamedTuple):
    """So many tokens, from one on, counted from the first that was ever written."""

    first: int
    num: int


Past = tuple[Stretch, ...]


class Part(NamedTuple):
    """Of a cache: so many tokens of a row, from a column on."""

    row: int
    column: int
    num: int


class Prefixes:
    """`prefixes.name(tokens, (*past, *prefixes.write(cache, [Part(0, 12, 9)])))`, then `prefixes.find(tokens)`."""

    def __init__(self, most_bytes: int = 0) -> None:
        self._most_bytes = most_bytes
        self._buffers: list[tuple[torch.Tensor, torch.Tensor]] = []
        """Of each layer, both (tokens, heads, head size)."""
        self._capacity = 0
        self._written = 0
        self._pasts: dict[Tokens, Past] = {}

    def forget(self) -> None:
        """Let go of all."""
        self._buffers, self._pasts = [], {}
        self._capacity = self._written = 0

    def find(self, tokens: Tokens) -> Past | None:
        """The past of a text, of all its tokens but the last at least; None where there is none, or none any more."""
        past = self._pasts.get(tokens)
        if past is None or self._is_whole(past):
            return past
        del self._pasts[tokens]
        return None

    def name(self, tokens: Tokens, past: Past) -> None:
        """Have a text's past found."""
        self._pasts[tokens] = past

    def write(self, cache: Cache, parts: Sequence[Part]) -> list[Stretch]:
        """Copy these parts of a cache; gives where each is. What does not fit is not found later."""
        if not self._buffers:
            self._allocate(cache)
        laps = self._written // self._capacity
        stretches = [self._reserve(part.num) for part in parts]
        if self._written // self._capacity > laps:
            self._pasts = {tokens: past for tokens, past in self._pasts.items() if self._is_whole(past)}
        written = [(part, at) for part, at in zip(parts, stretches, strict=True) if self._is_whole((at,))]
        if not written:
            return stretches
        device = self._buffers[0][0].device
        rows = torch.from_numpy(np.repeat([p.row for p, _ in written], [p.num for p, _ in written])).to(device)
        columns = torch.from_numpy(np.concatenate([np.arange(p.column, p.column + p.num) for p, _ in written]))
        places = torch.from_numpy(np.concatenate([self._places(at) for _, at in written])).to(device)
        columns = columns.to(device)
        for (keys, values), layer in zip(self._buffers, _layers(cache), strict=True):
            keys[places] = layer.all_keys[rows, :, columns]
            values[places] = layer.all_values[rows, :, columns]
        return stretches

    def load(self, texts: Sequence[Tokens]) -> tuple[Cache, list[int]]:
        """The past of texts that are found, of all but their last tokens, and the padding before each."""
        longest = max(map(len, texts)) - 1
        places = np.zeros((len(texts), longest), dtype=np.int64)
        for row, tokens in zip(places, texts, strict=True):
            begin = longest - len(tokens) + 1
            for stretch in self._pasts[tokens]:
                end = min(begin + stretch.num, longest)
                row[begin:end] = self._places(stretch)[: end - begin]
                begin = end
        index = torch.from_numpy(places).to(self._buffers[0][0].device)
        layers = [
            SpareLayer.of(keys[index].transpose(1, 2), values[index].transpose(1, 2)) for keys, values in self._buffers
        ]
        return Cache(layers=[*layers]), [longest - len(tokens) + 1 for tokens in texts]

    def _is_whole(self, past: Past) -> bool:
        """Whether none of it made room yet."""
        return all(stretch.first >= self._written - self._capacity for stretch in past)

    def _reserve(self, num: int) -> Stretch:
        """Places in a row for so many tokens."""
        left = self._capacity - self._written % self._capacity
        if left < num <= self._capacity:
            self._written += left
        if num > self._capacity:
            return Stretch(-self._capacity - 1, num)  # nowhere
        first = self._written
        self._written += num
        return Stretch(first, num)

    def _places(self, stretch: Stretch) -> "np.ndarray[Any, np.dtype[np.int64]]":
        first = stretch.first % self._capacity
        return np.arange(first, first + stretch.num)

    def _allocate(self, cache: Cache) -> None:
        """Buffers for keys and values as these are."""
        layers = _layers(cache)
        a_token = 2 * sum(layer.all_keys[0, :, :1].nbytes for layer in layers)
        device = layers[0].all_keys.device
        most = self._most_bytes or MOST_BYTES
        if device.type == "cuda" and not self._most_bytes:
            free, total = torch.cuda.mem_get_info(device)
            most = int(min(total * GPU_SHARE, free * FREE_SHARE))
        self._capacity = max(1, most // a_token)
        self._buffers = [
            (_buffer(layer.all_keys, self._capacity), _buffer(layer.all_values, self._capacity)) for layer in layers
        ]


def _layers(cache: Cache) -> list[SpareLayer]:
    return [layer for layer in cache.layers if isinstance(layer, SpareLayer)]


def _buffer(states: torch.Tensor, capacity: int) -> torch.Tensor:
    """For as many tokens. On a CPU the memory is taken as it is written."""
    _, heads, _, size = states.shape
    return states.new_empty(capacity, heads, size)
