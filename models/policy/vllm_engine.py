"""vLLM in this process: continuous batching, and a prefix cache with which a tree pays for each prefix once.

Its core runs in a process of its own, so that closing the engine gives all memory back. Log-probabilities are
those of the temperature that sampled (`processed_logprobs`). Noise is keyed by a request's seed and the length of
its prefix; another batch may still round otherwise. Siblings are drawn independently: `Request.known` is left out.
"""

import os
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from models.policy.adapters import find_adapter
from models.policy.codec import Codec
from models.policy.find import PolicyError, first_line
from models.policy.protocol import Completion, EngineError, Request
from models.policy.remote import VLLM_DEFAULTS, Row, finish, lora_slot, receive, spread

CPU_BLOCK = 32
"""Tokens of a block, which are cached together: the fewest that its kernels for CPUs take; its own choice is 128."""


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
        on_cpu: bool,
    ) -> None:
        """Start it. Raises PolicyError where it cannot run that policy."""
        for name, value in VLLM_DEFAULTS.items():
            os.environ.setdefault(name, value)
        from vllm import EngineArgs, LLMEngine
        from vllm.lora.request import LoRARequest
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext

        if on_cpu and not current_platform.is_cpu():
            raise PolicyError(
                "policy.device is the CPU, and the vLLM that is installed here runs on GPUs: set policy.device to "
                "auto, or take its build for CPUs (docs/engines.md)"
            )
        adapter = find_adapter(folder)
        self._adapter = LoRARequest(folder.name, 1, str(folder)) if adapter else None
        arguments = EngineArgs(
            model=str(adapter.base if adapter else folder),
            enable_lora=adapter is not None,
            max_lora_rank=lora_slot(adapter.rank) if adapter else EngineArgs.max_lora_rank,
            max_loras=1,
            dtype=dtype,
            max_num_seqs=max_rows,
            max_model_len=-1,  # the model's own, or less where the memory does not hold one such text
            tensor_parallel_size=tensor_parallel,
            gpu_memory_utilization=gpu_memory,
            enforce_eager=on_cpu,
            # On a CPU vLLM 0.32 dies of a prompt that is read in parts and has a seed.
            enable_chunked_prefill=False if on_cpu else None,
            enable_prefix_caching=True,
            block_size=CPU_BLOCK if on_cpu else None,
            logprobs_mode="processed_logprobs",
            trust_remote_code=False,
            disable_log_stats=True,
        )
        try:
            self._engine: Any = LLMEngine.from_engine_args(arguments, UsageContext.LLM_CLASS)  # whose batches are large
            if self._adapter:
                self._engine.add_lora(self._adapter)
        except (ValueError, RuntimeError) as error:  # pydantic's are the former
            raise PolicyError(
                f"vLLM cannot run the policy in {folder} ({first_line(error)}); what it said itself is above"
            ) from error
        self.codec = Codec(tokenizer)
        self.context: int = self._engine.model_config.max_model_len
        self.num_computed_tokens = 0
        self._rows: dict[str, Row] = {}
        self._refused: list[Row] = []

    def add(self, key: int, request: Request) -> None:
        """Queue a request. One with no token to start from, or no room for an answer, completes as an error."""
        row = Row.of(key, request, self.codec.encode(request.prompt), self.context)
        if row.goes_on:
            self._rows[str(key)] = row
            self._ask(row)
        else:
            self._refused.append(row)

    def step(self) -> list[tuple[int, Completion]]:
        """Work until something is finished. Raises EngineError where vLLM has died."""
        from vllm.v1.engine.exceptions import EngineDeadError

        done, self._refused = self._refused, []
        while not done and self._rows:
            try:
                outputs = self._engine.step()
            except EngineDeadError as error:
                raise EngineError(f"vLLM has ended ({first_line(error)}); what it said itself is above") from error
            for output in outputs:
                if output.finished:
                    row = self._rows[output.request_id]
                    self._receive(row, output)
                    if row.goes_on:
                        self._ask(row)
                    else:
                        done.append(self._rows.pop(output.request_id))
        return [(row.key, finish(row, self.codec)) for row in done]

    def close(self) -> None:
        """End its processes; their memory is given back."""
        self._engine.engine_core.shutdown()

    def _ask(self, row: Row) -> None:
        from vllm import SamplingParams, TokensPrompt

        self._engine.add_request(
            str(row.key),
            TokensPrompt(prompt_token_ids=list(row.tokens_so_far)),
            SamplingParams(
                temperature=row.request.temperature,
                max_tokens=row.next_limit,
                seed=spread(row),
                logprobs=0,  # of the sampled token alone
                stop=row.next_stop or None,
                include_stop_str_in_output=True,
                detokenize=bool(row.next_stop),
            ),
            lora_request=self._adapter,
        )

    def _receive(self, row: Row, output: Any) -> None:
        (answer,) = output.outputs
        computed = len(output.prompt_token_ids) - (output.num_cached_tokens or 0)
        self.num_computed_tokens += computed + len(answer.token_ids)
        receive(
            row,
            self.codec,
            tokens=answer.token_ids,
            logprobs=[known[token].logprob for token, known in zip(answer.token_ids, answer.logprobs, strict=True)],
            is_end=answer.finish_reason == "stop" and not isinstance(answer.stop_reason, str),
            is_error=answer.finish_reason not in ("stop", "length"),
        )
