"""Opens a policy: an ordinary Hugging Face folder, its tokenizer beside it, and an engine that runs it.

Weights are safetensors and code of a model's own is never run.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from models.memory import WARN, NoMemoryError, Say, explained, is_out_of_memory
from models.policy.adapters import DESCRIPTION, WEIGHTS, find_adapter
from models.policy.allocator import keep_freed_memory
from models.policy.find import PolicyError, first_line
from models.policy.joined import Joined
from models.policy.keeper import KEY_VARIABLE
from models.policy.protocol import Engine
from models.policy.server_engine import ServerEngine
from models.policy.serving import Serving
from models.policy.settings import PolicySettings
from models.policy.transformers_engine import TransformersEngine
from models.policy.vllm_engine import CPU_BLOCK, VllmEngine

logging.disable_progress_bar()  # ours are elsewhere, and a small model needs none

PEFT_PREFIX = "base_model.model."
VISIBLE = "CUDA_VISIBLE_DEVICES"
UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
"""What transformers raises for a folder that holds something else."""


_loading = Lock()
"""transformers changes torch's own functions while it loads: of two threads one may miss a tied head."""


class Policy(NamedTuple):
    """A model and its tokenizer in memory."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_policy(folder: Path, *, dtype: torch.dtype = torch.float32, device: str = "cpu", merge: bool = True) -> Policy:
    """The model and tokenizer of a folder. Raises PolicyError for a folder that holds none, or not all of it.

    Adapters are merged into their model, or stay in it to learn.
    """
    adapter, tokenizer = find_adapter(folder), load_tokenizer(folder)
    if adapter:
        model = load_policy(adapter.base, dtype=dtype).model
        with _loading:
            model = _with_adapters(model, folder, merge)
        return Policy(move(model, device), tokenizer)
    try:
        with _loading:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,  # transformers fills what is missing with noise, and goes on
            )
    except UNREADABLE as error:
        if is_out_of_memory(error):
            raise NoMemoryError(f"the memory does not hold the policy in {folder}: {first_line(error)}") from error
        raise PolicyError(f"{folder} holds no policy that can be opened: {first_line(error)}") from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise PolicyError(f"{folder} lacks weights ({len(missing)}, {missing[0]} first): it is no whole language model")
    return Policy(move(model, device), tokenizer)


def _with_adapters(model: PreTrainedModel, folder: Path, merge: bool) -> PreTrainedModel:
    from peft import PeftModel, get_peft_model_state_dict

    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            saved = {name.removeprefix(PEFT_PREFIX) for name in file.keys()}  # noqa: SIM118
        if merge:
            wrapped = PeftModel.from_pretrained(model, folder, torch_device="cpu")
        else:
            model.load_adapter(str(folder), is_trainable=True)
        known = get_peft_model_state_dict(
            wrapped if merge else model, adapter_name="default", save_embedding_layers=False
        )
    except (*UNREADABLE, TypeError) as error:
        raise PolicyError(f"the adapters in {folder} do not fit their model: {first_line(error)}") from error
    if wrong := sorted(saved ^ {name.removeprefix(PEFT_PREFIX) for name in known}):  # PEFT fills them in, and goes on
        raise PolicyError(f"the adapters in {folder} do not fit their model ({len(wrong)} weights, {wrong[0]} first)")
    if merge:
        wrapped.merge_and_unload()
        return model.requires_grad_(True)
    model.eval()
    return model


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder. Raises PolicyError where there is none, or none that can end an answer."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except UNREADABLE as error:
        raise PolicyError(f"{folder} holds no policy that can be opened: {first_line(error)}") from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # some kinds are made without a file, of nothing
        raise PolicyError(f"{folder} has no tokenizer: save the model's into it, by its save_pretrained")
    if tokenizer.eos_token_id is None:
        raise PolicyError(f"the tokenizer in {folder} has no end mark; set eos_token in its tokenizer_config.json")
    return tokenizer


def move(model: PreTrainedModel, device: str) -> PreTrainedModel:
    """The model on a device. Raises NoMemoryError where it has no room for it."""
    if choose_device(device) == "cpu":
        keep_freed_memory()
    with explained(f"{device} has no room for the policy; end what else is in its memory, or choose another device"):
        return model.to(torch.device(choose_device(device)))  # type: ignore[arg-type, no-any-return]  # its wrapper hides self


def save_policy(policy: Policy, folder: Path) -> None:
    """Write an ordinary Hugging Face folder; of a model with adapters they alone, which name the model's folder."""
    base, adapters = Path(policy.model.name_or_path or ""), getattr(policy.model, "peft_config", {})
    for adapter in adapters.values():
        adapter.base_model_name_or_path = str(base)  # where PEFT looks whether the vocabulary has grown
        adapter.target_modules = sorted(adapter.target_modules)  # a set's order is another in each process
    policy.model.save_pretrained(folder)
    if adapters:
        path = folder / DESCRIPTION
        path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": base.name}, indent=2))
    policy.tokenizer.save_pretrained(folder)


def choose_device(device: str) -> str:
    """`auto` is CUDA where there is one, else the CPU. Raises PolicyError for a device that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and first_gpu(device) >= torch.cuda.device_count():
        seen = torch.cuda.device_count() or "no"
        raise PolicyError(
            f"a device of the policy is {device!r}, and torch sees {seen} CUDA devices here; set it to auto or cpu"
        )
    return device


def first_gpu(device: str) -> int:
    """The number that a device says: 2 for cuda:2, and 0 for one that says none."""
    return torch.device("cpu" if device == "auto" else device).index or 0


def gpus_of(device: str, num: int = 1) -> list[str]:
    """So many GPUs from a device on, as `["cuda:2", "cuda:3"]`; none where it is the CPU. Raises PolicyError."""
    if choose_device(device) == "cpu":
        return []
    first, seen = first_gpu(device), torch.cuda.device_count()
    if first + num > seen:
        raise PolicyError(f"{num} GPUs from cuda:{first} on are asked for, and torch sees {seen} CUDA devices here")
    return [f"cuda:{first + place}" for place in range(num)]


def sampling_gpus(settings: PolicySettings) -> list[str]:
    """The GPUs of this machine that sampling takes."""
    if settings.is_joined:
        return []
    several = settings.tensor_parallel * settings.data_parallel
    return gpus_of(settings.device, 1 if settings.engine == "transformers" else several)


def physical(gpu: str) -> str:
    """A GPU's name for all processes of the machine: `cuda:6` for this one's `cuda:1`, where it sees 4 and 6 alone."""
    names = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    name = names[first_gpu(gpu)] if first_gpu(gpu) < len(names) else str(first_gpu(gpu))
    return f"cuda:{name}"


def seen_alone(gpus: Sequence[str]) -> dict[str, str]:
    """The environment in which a program sees these GPUs and no others; as it is where there are none."""
    return {VISIBLE: ",".join(physical(gpu).removeprefix("cuda:") for gpu in gpus)} if gpus else {}


def choose_dtype(dtype: str, device: str) -> torch.dtype:
    """`auto` is float32 on the CPU and bfloat16 elsewhere."""
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    return torch.bfloat16 if dtype == "bfloat16" else torch.float32


def _open_transformers(folder: Path, settings: PolicySettings, say: Say) -> Engine:
    device = choose_device(settings.device)
    policy = load_policy(folder, dtype=choose_dtype(settings.dtype, device), device=device)
    return TransformersEngine(policy.model, policy.tokenizer, max_rows=settings.max_rows, say=say)


def _open_vllm(folder: Path, settings: PolicySettings, _: Say) -> Engine:
    device = choose_device(settings.device)
    return VllmEngine(
        folder,
        load_tokenizer(folder),
        dtype=str(choose_dtype(settings.dtype, device)).removeprefix("torch."),
        max_rows=settings.max_rows,
        tensor_parallel=settings.tensor_parallel,
        gpu_memory=settings.gpu_memory,
        on_cpu=device == "cpu",
    )


def _open_server(folder: Path, settings: PolicySettings, _: Say) -> Engine:
    keeper = _join(folder, settings) if settings.is_joined else _start(folder, settings)
    try:
        return ServerEngine(
            keeper.url,
            folder.name,
            load_tokenizer(folder),
            key=keeper.key,
            max_rows=settings.max_rows,
            timeout_s=settings.timeout_s,
            patience_s=settings.patience_s,
            revive=keeper.revive,
            stop=keeper.stop,
        )
    except BaseException:
        keeper.stop()
        raise


def _start(folder: Path, settings: PolicySettings) -> Serving:
    device = choose_device(settings.device)
    options = {
        "dtype": str(choose_dtype(settings.dtype, device)).removeprefix("torch."),
        "max-num-seqs": settings.max_rows,
        "tensor-parallel-size": settings.tensor_parallel,
        "gpu-memory-utilization": settings.gpu_memory,
    }
    if settings.data_parallel > 1:
        options["data-parallel-size"] = settings.data_parallel
    cpu_options = ["--enforce-eager", "--no-enable-chunked-prefill", f"--block-size={CPU_BLOCK}"]  # vllm_engine.py
    for_cpu = cpu_options if device == "cpu" else []
    return Serving(
        folder,
        settings.server,
        [*(f"--{name}={value}" for name, value in options.items()), *for_cpu],
        env={VISIBLE: ""} if settings.device == "cpu" else seen_alone(sampling_gpus(settings)),
    )


def _join(folder: Path, settings: PolicySettings) -> Joined:
    return Joined(settings.server, folder, key=os.environ.get(KEY_VARIABLE, ""), patience_s=settings.patience_s)


ENGINES: dict[str, Callable[[Path, PolicySettings, Say], Engine]] = {
    "transformers": _open_transformers,
    "vllm": _open_vllm,
    "server": _open_server,
}
"""Name to what opens the engine."""


def open_engine(folder: Path, settings: PolicySettings, say: Say = WARN) -> Engine:
    """The engine that the settings name, with the policy of a folder in it; it says what its user should know."""
    return ENGINES[settings.engine](folder, settings, say)
