"""The default engine: any Hugging Face causal language model, on CPU or CUDA.

Requests are sorted by length and run in waves. In a wave each distinct prefix is
computed once, then every row decodes, and finished rows leave. What may be continued
is remembered, so that of a prefix which was written here the last token alone is
computed. Padding is on the left. It holds one model; it knows no checkpoints.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache

from models.memory import WARN, Memory, Say
from models.policy.cache import num_cache_layers, open_cache
from models.policy.codec import Codec
from models.policy.noise import choose, uniform, wrap
from models.policy.prefixes import Part, Prefixes, Tokens
from models.policy.prompting import context_length
from models.policy.protocol import Completion, Request
from models.policy.replacement import Trie, build_trie

ADVICE = "lower policy.max_rows, or policy.max_new_tokens"
SHRINK_BELOW = 0.85
"""Finished rows leave when this share or less is still running: copying the cache costs about a step."""


@dataclasses.dataclass(kw_only=True, slots=True)
class _Row:
    """A request on its way through a wave."""

    key: int
    request: Request
    prompt_tokens: int
    tokens: tuple[int, ...]
    limit: int
    """Tokens it may generate: as many as were asked for, or as the model's context leaves room for."""
    new_tokens: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    cuts: list[int] = dataclasses.field(default_factory=list)
    """New tokens after which a step was complete."""
    known: Trie = dataclasses.field(default_factory=dict)
    """Known continuations that begin with the new tokens."""
    stop_reason: str = "length"


class TransformersEngine:
    """`engine.add(0, Request(prompt="4 7 26>15;")); engine.step()` gives `[(0, Completion(…))]`.

    Raises ValueError for an architecture that it cannot run. A wave that the memory does not hold is run again with
    half the rows, once, which is said; after that NoMemoryError. After any exception in `step` discard the engine.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_rows: int = 256,
        say: Say = WARN,
    ) -> None:
        self.model = model.eval()
        self.codec = Codec(tokenizer)
        self._memory = Memory(max_rows, say, ADVICE, unit="texts side by side", result="answer")
        self.context = context_length(model)
        self.end_ids = _end_ids(model, tokenizer)
        self.num_computed_tokens = 0
        self._num_layers = num_cache_layers(model)
        self._prefixes = Prefixes()
        self._waiting: list[_Row] = []
        self._refused: list[_Row] = []

    def add(self, key: int, request: Request) -> None:
        """Queue a request. One with no token to start from, or no room for an answer, completes as an error."""
        prompt = self.codec.encode(request.prompt)
        tokens = prompt + request.prefix
        room = request.max_new_tokens if self.context is None else self.context - len(tokens)
        row = _Row(
            key=key,
            request=request,
            prompt_tokens=len(prompt),
            tokens=tokens,
            limit=min(request.max_new_tokens, room),
            known=build_trie(request.known),
        )
        if tokens and room > 0:
            self._waiting.append(row)
        else:
            row.stop_reason = "error"
            self._refused.append(row)

    def step(self) -> list[tuple[int, Completion]]:
        """Run one wave to its end: waiting requests of similar length, as many as may be side by side."""
        self._waiting.sort(key=lambda row: (len(row.tokens), row.limit))
        refused, self._refused = self._refused, []
        wave = self._memory.hold(self._run_first, len(self._divide()[0])) if self._waiting else []
        return [
            (
                row.key,
                self.codec.completion(
                    row.request, row.prompt_tokens, row.new_tokens, row.logprobs, row.cuts, row.stop_reason
                ),
            )
            for row in (*refused, *wave)
        ]

    def forget(self) -> None:
        """Remember no past: the model's weights are others now."""
        self._prefixes.forget()

    def close(self) -> None:
        """Let go of what it remembers; the model's memory goes with the last reference to it."""
        self.forget()

    def _run_first(self, most: int) -> list[_Row]:
        """A wave of the first that wait, from its beginning; they wait no more when it has come to its end."""
        first, rest, are_known = self._divide()
        wave = [dataclasses.replace(row, new_tokens=[], logprobs=[], cuts=[]) for row in first[:most]]
        try:
            self._run(wave, are_known=are_known)
        except RuntimeError:
            self._prefixes.forget()  # it may be what the memory lacks
            raise
        self._waiting = first[most:] + rest
        return wave

    def _divide(self) -> tuple[list[_Row], list[_Row], bool]:
        """Who goes first, who goes later, and whether the past of the first is remembered: whichever are more."""
        known, strange = list[_Row](), list[_Row]()
        for row in self._waiting:
            (strange if self._prefixes.find(row.tokens) is None else known).append(row)
        return (known, strange, True) if len(known) > len(strange) else (strange, known, False)

    @torch.inference_mode()
    def _run(self, wave: Sequence[_Row], *, are_known: bool) -> None:
        """Compute each distinct prefix once, or its last token, then decode until every row has ended."""
        prefixes = list(dict.fromkeys(row.tokens for row in wave))
        if are_known:
            cache, padding = self._prefixes.load(prefixes)
            ids = torch.tensor([prefix[-1:] for prefix in prefixes])
        else:
            cache, (ids, padding) = open_cache(self._num_layers), _pad(prefixes)
        device = self.model.device
        pads = torch.tensor(padding, device=device) if any(padding) else None
        logits = self._forward(ids.to(device), pads, cache)

        place = {prefix: index for index, prefix in enumerate(prefixes)}
        begun = {row.tokens: place[row.tokens] for row in wave if row.request.boundary}
        memo = _Memo(self._prefixes, cache, begun) if begun else None
        index = torch.tensor([place[row.tokens] for row in wave], device=device)
        logits, pads = logits[index], None if pads is None else pads[index]
        cache.batch_select_indices(index)
        running, noise = list(wave), _Noise.of(wave, device)
        for position in range(max(row.limit for row in wave)):
            tokens, logprobs = noise.sample(logits, position, _find_known(running))
            alive = self._record(running, tokens.tolist(), logprobs.tolist())
            if memo and (not alive or len(alive) <= SHRINK_BELOW * len(running)):
                memo.keep(cache, running, set(range(len(running))).difference(alive))
            if not alive:
                return
            if len(alive) <= SHRINK_BELOW * len(running):
                index = torch.tensor(alive, device=device)
                running = [running[i] for i in alive]
                tokens, noise, pads = tokens[index], noise.select(index), None if pads is None else pads[index]
                cache.batch_select_indices(index)
            logits = self._forward(tokens.unsqueeze(-1), pads, cache)

    def _forward(self, ids: torch.Tensor, pads: torch.Tensor | None, cache: Cache) -> torch.Tensor:
        """Logits of the last position. (batch, time), padding before each row (batch,) -> (batch, vocabulary)."""
        self.num_computed_tokens += ids.numel()
        mask = positions = None
        if pads is not None:
            places = torch.arange(cache.get_seq_length() + ids.shape[1], device=ids.device) - pads.unsqueeze(-1)
            mask, positions = (places >= 0).long(), places[:, -ids.shape[1] :].clamp(min=0)
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

    def _record(self, running: Sequence[_Row], tokens: list[int], logprobs: list[float]) -> list[int]:
        """Append a token to every row that is still running; return the indices of those that go on."""
        alive = []
        for index, row in enumerate(running):
            if row.stop_reason != "length" or len(row.new_tokens) >= row.limit:
                continue
            row.new_tokens.append(tokens[index])
            row.logprobs.append(logprobs[index])
            if row.known:
                row.known = row.known[tokens[index]].below if tokens[index] in row.known else {}
            if tokens[index] in self.end_ids:
                row.stop_reason = "end"
                continue
            if row.request.boundary and self.codec.completes_step(
                row.new_tokens, row.cuts[-1] if row.cuts else 0, row.request.boundary
            ):
                row.cuts.append(len(row.new_tokens))
                if len(row.cuts) == row.request.max_steps:
                    row.stop_reason = "step"
                    continue
            if len(row.new_tokens) < row.limit:
                alive.append(index)
        return alive


class _Memo:
    """Has a wave's texts remembered as they end, each up to its last whole step."""

    def __init__(self, prefixes: Prefixes, cache: Cache, begun: Mapping[Tokens, int]) -> None:
        """With the cache of distinct prefixes, just computed; `begun` are those to remember, with their rows."""
        self._prefixes, self._width = prefixes, cache.get_seq_length()
        self._pasts = {tokens: prefixes.find(tokens) or () for tokens in begun}
        missing = {tokens: len(tokens) - sum(each.num for each in past) for tokens, past in self._pasts.items()}
        parts = {tokens: Part(begun[tokens], self._width - num, num) for tokens, num in missing.items() if num}
        for tokens, stretch in zip(parts, prefixes.write(cache, [*parts.values()]), strict=True):
            self._pasts[tokens] = (*self._pasts[tokens], stretch)
            prefixes.name(tokens, self._pasts[tokens])

    def keep(self, cache: Cache, running: Sequence[_Row], ended: Iterable[int]) -> None:
        """Remember the steps of rows that ended, before they leave the cache; a last token was not computed."""
        rows = {place: running[place] for place in ended if running[place].cuts}
        parts = [Part(place, self._width, row.cuts[-1] - 1) for place, row in rows.items()]
        for row, stretch in zip(rows.values(), self._prefixes.write(cache, parts), strict=True):
            for cut in row.cuts:
                past = (*self._pasts[row.tokens], stretch._replace(num=cut - 1))
                self._prefixes.name(row.tokens + tuple(row.new_tokens[:cut]), past)


def _pad(prefixes: Sequence[Tokens]) -> tuple[torch.Tensor, list[int]]:
    """Left-padded ids (prefixes, time), and how many of each are padding."""
    longest = max(map(len, prefixes))
    pads = [longest - len(prefix) for prefix in prefixes]
    # Any id will do as padding: the mask hides it.
    return torch.tensor([(0,) * pad + prefix for pad, prefix in zip(pads, prefixes, strict=True)]), pads


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Noise:
    """Seeds, offsets (tokens of the prefix) and temperatures of the rows that are running. All (batch,)."""

    seeds: torch.Tensor
    offsets: torch.Tensor
    temperatures: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[_Row], device: torch.device) -> "_Noise":
        return cls(
            seeds=torch.tensor([wrap(row.request.seed) for row in rows], dtype=torch.int64, device=device),
            offsets=torch.tensor([len(row.request.prefix) for row in rows], device=device),
            temperatures=torch.tensor([row.request.temperature for row in rows], device=device),
        )

    def select(self, index: torch.Tensor) -> "_Noise":
        return _Noise(seeds=self.seeds[index], offsets=self.offsets[index], temperatures=self.temperatures[index])

    def sample(
        self, logits: torch.Tensor, position: int, known: Sequence[tuple[int, int, float]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and their log-probabilities at each row's temperature. (batch, vocabulary) -> (batch,) twice.

        `known` is row, token and log(1 - f) of what was written before; log-probabilities are the policy's own.
        """
        is_greedy = self.temperatures == 0
        logprobs = (logits / self.temperatures.masked_fill(is_greedy, 1.0).unsqueeze(-1)).log_softmax(-1)
        draws = uniform(self.seeds, self.offsets + position)
        left = logprobs
        if known:
            rows, taken, log_left = (torch.tensor(column, device=logits.device) for column in zip(*known, strict=True))
            left = logprobs.index_put((rows, taken), log_left.to(logprobs.dtype), accumulate=True)
        tokens = torch.where(is_greedy, left.argmax(-1), choose(left, draws))
        return tokens, logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def _find_known(running: Sequence[_Row]) -> list[tuple[int, int, float]]:
    """Row, token and log(1 - f) of each next token with which something known goes on."""
    return [
        (index, token, branch.log_left)
        for index, row in enumerate(running)
        if row.known
        for token, branch in row.known.items()
    ]


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every token that ends an answer: the tokenizer's and the generation configuration's."""
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    several = configured if isinstance(configured, list) else [configured]
    return tuple(dict.fromkeys(i for i in (tokenizer.eos_token_id, *several) if i is not None))
