"""The default engine: any Hugging Face causal language model, on CPU or CUDA.

Requests are sorted by length and run in waves. In a wave each distinct prompt
is computed once, the key-value cache has its room from the start, and finished
rows leave. Padding is on the left. It holds one model; it knows no checkpoints.
"""

import dataclasses
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache, DynamicLayer

from models.policy.noise import choose, uniform
from models.policy.prompting import encode_prompt
from models.policy.protocol import Completion, Request

SHRINK_BELOW = 0.75
"""Finished rows leave when this share or less is still running: copying the cache costs about a step."""


class RoomyLayer(DynamicLayer):
    """A layer's keys and values in buffers with room for the whole wave, so that growing copies nothing."""

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.room = room
        self.length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take the room that the whole wave will need. states: (batch, heads, time, head size)."""
        batch, heads, _, size = key_states.shape
        self.dtype, self.device = key_states.dtype, key_states.device
        self.all_keys = key_states.new_empty(batch, heads, self.room, size)
        self.all_values = value_states.new_empty(batch, heads, self.room, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append, and return all there is: views, not copies."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
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
        self.all_keys = self.all_keys[indices]
        self.all_values = self.all_values[indices]


@dataclasses.dataclass(kw_only=True, slots=True)
class _Row:
    """A request on its way through a wave."""

    key: int
    request: Request
    prompt_tokens: int
    tokens: tuple[int, ...]
    new_tokens: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    stop_reason: str = "length"


class TransformersEngine:
    """`engine.add(0, Request(prompt="4 26 7>15;")); engine.step()` gives `[(0, Completion(…))]`."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_rows: int = 256) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.max_rows = max_rows
        self.end_ids = _end_ids(model, tokenizer)
        self.num_computed_tokens = 0
        self._waiting: deque[_Row] = deque()
        self._sorted = True
        self._prompts: dict[str, tuple[int, ...]] = {}

    def add(self, key: int, request: Request) -> None:
        """Queue a request."""
        prompt = self._encode(request.prompt)
        self._waiting.append(_Row(key=key, request=request, prompt_tokens=len(prompt), tokens=prompt + request.prefix))
        self._sorted = False

    def step(self) -> list[tuple[int, Completion]]:
        """Run one wave to its end: up to `max_rows` waiting requests of similar length."""
        if not self._sorted:
            self._waiting = deque(sorted(self._waiting, key=lambda row: (len(row.tokens), row.request.max_new_tokens)))
            self._sorted = True
        wave = [self._waiting.popleft() for _ in range(min(self.max_rows, len(self._waiting)))]
        if wave:
            self._run(wave)
        return [(row.key, self._complete(row)) for row in wave]

    @torch.inference_mode()
    def _run(self, wave: Sequence[_Row]) -> None:
        """Prefill each distinct prefix once, then decode until every row has ended."""
        prefixes = list(dict.fromkeys(row.tokens for row in wave))
        room = len(prefixes[-1]) + max(row.request.max_new_tokens for row in wave)
        cache = Cache(layers=[RoomyLayer(room) for _ in range(self.model.config.num_hidden_layers)])
        ids, mask = self._pad(prefixes)
        logits = self._forward(ids, mask, cache)

        place = {prefix: index for index, prefix in enumerate(prefixes)}
        index = torch.tensor([place[row.tokens] for row in wave], device=self.model.device)
        logits, mask = logits[index], None if mask is None else mask[index]
        cache.batch_select_indices(index)
        running = list(wave)
        noise = _Noise.of(running, self.model.device)
        for position in range(max(row.request.max_new_tokens for row in wave)):
            tokens, logprobs = noise.sample(logits, position)
            alive = self._record(running, tokens.tolist(), logprobs.tolist())
            if not alive:
                return
            if len(alive) <= SHRINK_BELOW * len(running):
                index = torch.tensor(alive, device=self.model.device)
                running = [running[i] for i in alive]
                tokens, noise = tokens[index], noise.select(index)
                mask = None if mask is None else mask[index]
                cache.batch_select_indices(index)
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits = self._forward(tokens.unsqueeze(-1), mask, cache)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor | None, cache: Cache) -> torch.Tensor:
        """Logits of the last position. ids: (batch, time) -> (batch, vocabulary)."""
        self.num_computed_tokens += ids.numel()
        positions = None if mask is None else (mask.cumsum(-1) - 1).clamp_(min=0)[:, -ids.shape[1] :]
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _pad(self, prefixes: Sequence[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Left-padded ids and their mask, or no mask where nothing is padded. (prefixes, time)."""
        longest = max(map(len, prefixes))
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.end_ids[0]
        ids = torch.tensor([[pad] * (longest - len(prefix)) + list(prefix) for prefix in prefixes])
        if all(len(prefix) == longest for prefix in prefixes):
            return ids.to(self.model.device), None
        mask = torch.tensor([[0] * (longest - len(prefix)) + [1] * len(prefix) for prefix in prefixes])
        return ids.to(self.model.device), mask.to(self.model.device)

    def _record(self, running: Sequence[_Row], tokens: list[int], logprobs: list[float]) -> list[int]:
        """Append a token to every row that is still running; return the indices of those that go on."""
        alive = []
        for index, row in enumerate(running):
            if row.stop_reason == "end" or len(row.new_tokens) >= row.request.max_new_tokens:
                continue
            row.new_tokens.append(tokens[index])
            row.logprobs.append(logprobs[index])
            if tokens[index] in self.end_ids:
                row.stop_reason = "end"
            elif len(row.new_tokens) < row.request.max_new_tokens:
                alive.append(index)
        return alive

    def _encode(self, prompt: str) -> tuple[int, ...]:
        """Token ids of a prompt, remembered for its other samples."""
        if prompt not in self._prompts:
            if len(self._prompts) > 100_000:
                self._prompts.clear()
            self._prompts[prompt] = encode_prompt(self.tokenizer, prompt)
        return self._prompts[prompt]

    def _complete(self, row: _Row) -> Completion:
        ended = row.stop_reason == "end"
        return Completion(
            text=str(self.tokenizer.decode(row.new_tokens[:-1] if ended else row.new_tokens)),
            token_ids=row.new_tokens,
            logprobs=row.logprobs,
            prompt_tokens=row.prompt_tokens,
            stop_reason=row.stop_reason,
            seed=row.request.seed,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Noise:
    """Seeds, offsets (tokens of the prefix) and temperatures of the rows that are running. All (batch,)."""

    seeds: torch.Tensor
    offsets: torch.Tensor
    temperatures: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[_Row], device: torch.device) -> "_Noise":
        return cls(
            seeds=torch.tensor([row.request.seed for row in rows], dtype=torch.int64, device=device),
            offsets=torch.tensor([len(row.request.prefix) for row in rows], device=device),
            temperatures=torch.tensor([row.request.temperature for row in rows], device=device),
        )

    def select(self, index: torch.Tensor) -> "_Noise":
        return _Noise(seeds=self.seeds[index], offsets=self.offsets[index], temperatures=self.temperatures[index])

    def sample(self, logits: torch.Tensor, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and their log-probabilities at each row's temperature. (batch, vocabulary) -> (batch,) twice."""
        is_greedy = self.temperatures == 0
        logprobs = (logits / self.temperatures.masked_fill(is_greedy, 1.0).unsqueeze(-1)).log_softmax(-1)
        draws = uniform(self.seeds, self.offsets + position)
        tokens = torch.where(is_greedy, logits.argmax(-1), choose(logprobs, draws))
        return tokens, logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every token that ends an answer: the tokenizer's and the generation configuration's."""
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    several = configured if isinstance(configured, list) else [configured]
    return tuple(dict.fromkeys(i for i in (tokenizer.eos_token_id, *several) if i is not None))
