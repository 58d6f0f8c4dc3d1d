"""What may be chosen about a policy. Imports no torch, so that a configuration is checked at once."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

SCRATCH = "scratch"
Chat = Literal["auto", "plain", "thinking", "direct"]


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """Which policy learns, and how it is run: `PolicySettings(model="Qwen/Qwen3-0.6B")`."""

    model: Annotated[str, "scratch (a small Llama made here), or a Hugging Face folder or name."] = SCRATCH
    engine: Annotated[
        Literal["transformers", "vllm", "server"],
        "What generates text: transformers, vllm in this environment, or a server that is asked over HTTP.",
    ] = "transformers"
    server: Annotated[
        str,
        "server: the command that serves a folder, of vLLM in whichever environment, as .venv-vllm/bin/vllm serve; or "
        "the address of a keeper on another machine, as http://gpu1:8001.",
    ] = "vllm serve"
    timeout_s: Annotated[float, "server: longest wait for one answer, in seconds."] = 600.0
    patience_s: Annotated[float, "server: how long a request that failed is tried again, in seconds."] = 600.0
    chat: Annotated[
        Chat,
        "How a model is asked: auto, by its chat template where it has one; plain, as bare text; thinking or direct, "
        "by a chat template that thinks on demand.",
    ] = "auto"
    device: Annotated[
        str,
        "Where it samples: auto (CUDA where there is one, else the CPU), cpu, cuda or cuda:N, the first of several.",
    ] = "auto"
    train_device: Annotated[str, "Where it trains, said as device is; empty: where it samples."] = ""
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"], "Precision of sampling; auto: float32 on the CPU, else bfloat16."
    ] = "auto"
    max_rows: Annotated[int, "Most texts generated side by side."] = 512
    threads: Annotated[int, "CPU threads of each engine; 0: all there are."] = 1
    tensor_parallel: Annotated[int, "vllm and server: GPUs that share each layer of the model."] = 1
    data_parallel: Annotated[int, "server: copies of the model, on GPUs of their own, behind one address."] = 1
    gpu_memory: Annotated[float, "vllm and server: share of a GPU's memory that it takes."] = 0.9
    max_new_tokens: Annotated[int, "Longest answer, in tokens; a longer one is cut off and counts as wrong."] = 96

    def __post_init__(self) -> None:
        if self.max_rows < 1 or self.max_new_tokens < 1:
            raise ValueError(f"max_rows {self.max_rows} and max_new_tokens {self.max_new_tokens} must be positive")
        if self.threads < 0:
            raise ValueError(f"threads is {self.threads}; expected 0, for all there are, or more")
        if self.timeout_s <= 0 or self.patience_s <= 0:
            raise ValueError(f"timeout_s {self.timeout_s:g} and patience_s {self.patience_s:g} must be over 0")
        if not self.server.strip():
            raise ValueError("server is empty; expected a command as vllm serve, or an address as http://gpu1:8001")
        if min(self.tensor_parallel, self.data_parallel) < 1:
            raise ValueError(
                f"tensor_parallel is {self.tensor_parallel} and data_parallel {self.data_parallel}; expected at least 1"
            )
        if not 0 < self.gpu_memory <= 1:
            raise ValueError(f"gpu_memory is {self.gpu_memory:g}; expected a share, over 0 to 1")
        for name, device in (("device", self.device), ("train_device", self.trains_on)):
            if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device):
                raise ValueError(f"{name} is {device!r}; expected auto, cpu, cuda or cuda:N")

    @property
    def trains_on(self) -> str:
        """The device of trainings."""
        return self.train_device or self.device

    @property
    def is_joined(self) -> bool:
        """Whether the server is one that a keeper keeps."""
        return self.engine == "server" and self.server.startswith(("http://", "https://"))


@dataclass(frozen=True, kw_only=True)
class ScratchSettings:
    """The shape of a policy built from scratch."""

    hidden_size: Annotated[int, "Width of the model."] = 128
    num_layers: Annotated[int, "Transformer blocks."] = 2
    num_heads: Annotated[int, "Attention heads; must divide hidden_size."] = 8
    context: Annotated[int, "Longest text in tokens, prompt and answer together."] = 256

    def __post_init__(self) -> None:
        if min(self.hidden_size, self.num_layers, self.num_heads, self.context) < 1:
            raise ValueError("hidden_size, num_layers, num_heads and context must be positive")
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of 2 x num_heads ({self.num_heads})")
