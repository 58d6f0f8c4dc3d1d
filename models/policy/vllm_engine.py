"""vLLM in this process: continuous batching, and a prefix cache with which a tree pays for each prefix once.

Its core runs in a process of its own, so that closing the engine gives all memory back. Log-probabilities are
those of the temperature that sampled (`processed_logprobs`). Noise is keyed by a request's seed and the length of
its prefix; another batch may still round otherwise. Siblings are drawn independently: `Request.known` is left out.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from models.policy.codec import Codec
from models.policy.protocol import Completion, Request

CPU_CACHE_GIB = "2"
"""Room for keys and values on a CPU, unless VLLM_CPU_KVCACHE_SPACE says otherwise."""
SPREAD = 0x9E3779B97F4A7C15
"""An odd number that keeps the seeds of a prompt's prefixes apart."""


@dataclasses.dataclass(kw_only=True, slots=True)
class _Row:
    """A request on its way."""

    key: int
    request: Request
    prompt: tuple[int, ...]
    limit: int
    """Tokens it may generate."""
    tokens: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    cuts: list[int] = dataclasses.field(default_factory=list)
    stop_reason: str = "length"


class VllmEngine:
    """`VllmEngine(folder, tokenizer, max_rows=256, …)`; used as every engine is, and closed at last."""

    def __init__(
        self,
        folder: Path,
        tokenizer: PreTrainedTokenizerBase,
        *,
        dtype: str,
        max_rows: int,
        tensor_parallel: int,
        gpu_memory: float,
        is_eager: bool,
    ) -> None:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", CPU_CACHE_GIB)
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        from vllm import EngineArgs, LLMEngine

        self._engine: Any = LLMEngine.from_engine_args(
            EngineArgs(
                model=str(folder),
                dtype=dtype,
                max_num_seqs=max_rows,
                tensor_parallel_size=tensor_parallel,
                gpu_memory_utilization=gpu_memory,
                enforce_eager=is_eager,
                enable_prefix_caching=True,
                logprobs_mode="processed_logprobs",
                trust_remote_code=False,
                disable_log_stats=True,
            )
        )
        self.codec = Codec(tokenizer)
        self.context: int = self._engine.model_config.max_model_len
        self.num_computed_tokens = 0
        self._rows: dict[str, _Row] = {}
        self._refused: list[_Row] = []

    def add(self, key: int, request: Request) -> None:
        """Queue a request. One with no token to start from, or no room for an answer, completes as an error."""
        prompt = self.codec.encode(request.prompt)
        room = self.context - len(prompt) - len(request.prefix)
        row = _Row(key=key, request=request, prompt=prompt, limit=min(request.max_new_tokens, room))
        if prompt + request.prefix and room > 0:
            self._rows[str(key)] = row
            self._ask(row)
        else:
            row.stop_reason = "error"
            self._refused.append(row)

    def step(self) -> list[tuple[int, Completion]]:
        """Work until something is finished."""
        done, self._refused = self._refused, []
        while not done and self._rows:
            for output in self._engine.step():
                if output.finished:
                    row = self._rows[output.request_id]
                    self._read(row, output)
                    if self._goes_on(row):
                        self._ask(row)
                    else:
                        done.append(self._rows.pop(output.request_id))
        return [
            (
                row.key,
                self.codec.completion(
                    row.request, len(row.prompt), row.tokens, row.logprobs, row.cuts, row.stop_reason
                ),
            )
            for row in done
        ]

    def close(self) -> None:
        """End its processes; their memory is given back."""
        self._engine.engine_core.shutdown()

    def _ask(self, row: _Row) -> None:
        """Have it go on from what it has: to its next step's end, where it may not have to go further."""
        from vllm import SamplingParams, TokensPrompt

        request, written = row.request, (*row.request.prefix, *row.tokens)
        stop = request.boundary if request.max_steps and isinstance(request.boundary, str) else ""
        limit = row.limit - len(row.tokens)
        if request.max_steps and isinstance(request.boundary, int):
            limit = min(limit, request.boundary * (request.max_steps - len(row.cuts)))
        self._engine.add_request(
            str(row.key),
            TokensPrompt(prompt_token_ids=[*row.prompt, *written]),
            SamplingParams(
                temperature=request.temperature,
                max_tokens=limit,
                seed=(request.seed + SPREAD * len(written)) % 2**63,
                logprobs=0,  # of the sampled token alone
                stop=[stop] if stop else None,
                include_stop_str_in_output=True,
                detokenize=bool(stop),
            ),
        )

    def _read(self, row: _Row, output: Any) -> None:
        """Take in what it wrote."""
        (answer,) = output.outputs
        first, row.stop_reason = len(row.tokens), "length"
        for token, known in zip(answer.token_ids, answer.logprobs, strict=True):
            row.tokens.append(token)
            row.logprobs.append(known[token].logprob)
        self.num_computed_tokens += len(output.prompt_token_ids) - (output.num_cached_tokens or 0)
        self.num_computed_tokens += len(row.tokens) - first
        if answer.finish_reason == "stop" and not isinstance(answer.stop_reason, str):
            row.stop_reason = "end"
        elif answer.finish_reason not in ("stop", "length"):
            row.stop_reason = "error"
        self._cut(row, first)

    def _cut(self, row: _Row, first: int) -> None:
        """Find where steps ended among the tokens from `first` on."""
        boundary, last = row.request.boundary, len(row.tokens) - (row.stop_reason == "end")
        for place in range(first + 1, last + 1) if boundary else ():
            begun = row.cuts[-1] if row.cuts else 0
            if self.codec.completes_step(row.tokens[begun:place], 0, boundary):
                row.cuts.append(place)

    def _goes_on(self, row: _Row) -> bool:
        """Whether steps are missing still; says where it has all of them."""
        if row.stop_reason != "length":
            return False
        if row.request.max_steps and len(row.cuts) >= row.request.max_steps:
            row.stop_reason = "step"
            return False
        return len(row.tokens) < row.limit
