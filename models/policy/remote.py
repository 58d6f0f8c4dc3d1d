"""A request on its way through an engine that generates elsewhere, step by step where it has to stop at some."""

import dataclasses
from collections.abc import Sequence

from models.policy.codec import Codec
from models.policy.find import PolicyError
from models.policy.protocol import Completion, Request

VLLM_DEFAULTS = {
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork has no CUDA where torch was asked for its GPUs before
}
"""Of its environment, unless that says otherwise; room for keys and values on a CPU is in GiB."""
VLLM_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""That it makes room for."""
SPREAD = 0x9E3779B97F4A7C15
"""An odd number that keeps the seeds of a prompt's prefixes apart."""


def lora_slot(rank: int) -> int:
    """The least room of vLLM's for adapters of a rank. Raises PolicyError where there is none."""
    for room in VLLM_LORA_RANKS:
        if rank <= room:
            return room
    raise PolicyError(f"vLLM takes adapters up to rank {VLLM_LORA_RANKS[-1]}, and these are of rank {rank}")


@dataclasses.dataclass(kw_only=True, slots=True)
class Row:
    """`Row.of(0, request, prompt, context)`; its engine sends it as long as it goes on."""

    key: int
    request: Request
    prompt: tuple[int, ...]
    limit: int
    """Tokens it may generate: as many as were asked for, or as the model's context leaves room for."""
    tokens: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    cuts: list[int] = dataclasses.field(default_factory=list)
    """Tokens after which a step was complete."""
    stop_reason: str = "length"
    goes_on: bool = True

    @classmethod
    def of(cls, key: int, request: Request, prompt: tuple[int, ...], context: int | None) -> "Row":
        """An error where there is no token to start from, or no room for an answer."""
        room = request.max_new_tokens if context is None else context - len(prompt) - len(request.prefix)
        row = cls(key=key, request=request, prompt=prompt, limit=min(request.max_new_tokens, room))
        if not (prompt + request.prefix) or room <= 0:
            row.stop_reason, row.goes_on = "error", False
        return row

    @property
    def tokens_so_far(self) -> tuple[int, ...]:
        """What there is to go on from."""
        return (*self.prompt, *self.request.prefix, *self.tokens)

    @property
    def next_stop(self) -> str:
        """The text that it has to stop after; empty: none."""
        boundary = self.request.boundary
        return boundary if self.request.max_steps and isinstance(boundary, str) else ""

    @property
    def next_limit(self) -> int:
        """Most tokens to ask for."""
        limit, boundary = self.limit - len(self.tokens), self.request.boundary
        if self.request.max_steps and isinstance(boundary, int):
            limit = min(limit, boundary * (self.request.max_steps - len(self.cuts)))
        return limit


def spread(row: Row) -> int:
    """A seed for what comes next: the request's, and of the place where it goes on. Below 2^63."""
    return (row.request.seed + SPREAD * (len(row.request.prefix) + len(row.tokens))) % 2**63


def receive(
    row: Row, codec: Codec, *, tokens: Sequence[int], logprobs: Sequence[float], is_end: bool, is_error: bool = False
) -> None:
    """Take in what was generated; afterwards the row knows whether it goes on, and else why not."""
    first, boundary, num_steps = len(row.tokens), row.request.boundary, row.request.max_steps
    row.tokens += tokens
    row.logprobs += logprobs
    for place in range(first + 1, len(row.tokens) - is_end + 1) if boundary else ():
        begun = row.cuts[-1] if row.cuts else 0
        if codec.completes_step(row.tokens[begun:place], 0, boundary):
            row.cuts.append(place)
    has_all = bool(num_steps) and len(row.cuts) >= num_steps
    row.stop_reason = "error" if is_error else "end" if is_end else "step" if has_all else "length"
    row.goes_on = row.stop_reason == "length" and len(row.tokens) < row.limit and bool(tokens)


def finish(row: Row, codec: Codec) -> Completion:
    """The answer."""
    return codec.completion(row.request, len(row.prompt), row.tokens, row.logprobs, row.cuts, row.stop_reason)
