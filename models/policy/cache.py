"""Keys and values of a wave's past, in buffers with a few tokens to spare.

transformers copies the whole past for every token; here it moves once in a few
tokens. Room for the whole wave from the start would spare that too, but leaves
gaps in memory that cost attention more than the copies do (measured on a CPU:
29,000 tokens/s against 26,000), and holds memory that short answers never use.
"""

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer, get_layer_types_and_kwargs

SPARE_TOKENS = 4
SPARE_SHARE = 1 / 16
"""Of a long past this share is spare, so that a token's share of the copying stays small."""
KINDS = {"full_attention", "sliding_attention"}
"""Kinds of layer whose past is keys and values; the mask does the sliding."""


class SpareLayer(DynamicLayer):
    """A layer's keys and values. Each (batch, heads, time, head size)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.length = 0

    @classmethod
    def of(cls, keys: torch.Tensor, values: torch.Tensor) -> "SpareLayer":
        """A layer that holds these."""
        layer = cls()
        layer.update(keys, values)
        return layer

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Start with nothing, in the type and place of these states."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.all_keys, self.all_values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append, and return all there is: views, not copies."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        if end > self.all_keys.shape[-2]:
            room = end + max(SPARE_TOKENS, int(end * SPARE_SHARE))
            self.all_keys = self._move(self.all_keys, room)
            self.all_values = self._move(self.all_values, room)
        self.all_keys[:, :, self.length : end] = key_states
        self.all_values[:, :, self.length : end] = value_states
        self.length = end
        return self.all_keys[:, :, :end], self.all_values[:, :, :end]

    def get_seq_length(self) -> int:
        """Tokens held so far."""
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the mask for a query of this length."""
        return self.length + query_length, 0

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows, in this order; an index may stand more than once."""
        if self.is_initialized:
            self.all_keys = self.all_keys.index_select(0, indices)
            self.all_values = self.all_values.index_select(0, indices)

    def _move(self, states: torch.Tensor, room: int) -> torch.Tensor:
        batch, heads, _, size = states.shape
        moved = states.new_empty(batch, heads, room, size)
        moved[:, :, : self.length] = states[:, :, : self.length]
        return moved


def num_cache_layers(model: PreTrainedModel) -> int:
    """Layers that hold a past. Raises ValueError where it is more than keys and values."""
    layer_types, _ = get_layer_types_and_kwargs(model.config.get_text_config(decoder=True))
    if strangers := sorted(set(layer_types) - KINDS):
        raise ValueError(
            f"{type(model).__name__} has layers of {', '.join(strangers)}; the transformers engine runs "
            f"{' and '.join(sorted(KINDS))} only: choose another policy.model or policy.engine"
        )
    return len(layer_types)


def open_cache(num_layers: int) -> Cache:
    """An empty past."""
    return Cache(layers=[SpareLayer() for _ in range(num_layers)])
