"""Finds a model's folder: a local one, else in the local Hugging Face cache, else, with a network, fetched.

Without torch, so that a model that is not there is told at once.
"""

import json
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from huggingface_hub import constants, model_info, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

NETWORK_TIMEOUT_S = 4.0
"""For one answer of the hub, which its client asks for twice: a model that cannot be had is told within 10 s."""
PATIENCE_S = 9.0
"""For all of it."""
DESCRIPTION, ADAPTERS = "config.json", "adapter_config.json"
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""All weights, or which of several files has which."""
FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""What a policy needs; no pickled weights, no code."""


class PolicyError(ValueError):
    """A policy that cannot be opened."""


def find_model(name: str) -> Path:
    """The folder of a model: a local folder, else from the cache, else fetched. Raises PolicyError."""
    if name and (folder := Path(name).expanduser()).is_dir():
        if lacking := find_lacking(folder):
            raise PolicyError(f"the folder {name!r} has no {lacking}; policy.model is a Hugging Face folder or name")
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise PolicyError(f"there is no folder {name!r}; policy.model is a Hugging Face folder or name, or scratch")
    try:
        folder = Path(snapshot_download(name, allow_patterns=FILES, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return _fetch(name)
    return _fetch(name) if find_lacking(folder) else folder


def find_lacking(folder: Path) -> str:
    """What a folder of a policy must have and does not; empty where that is nothing, and for one of adapters."""
    if (folder / ADAPTERS).exists():  # whoever opens it says what is wrong
        return ""
    if not (folder / DESCRIPTION).exists():
        return DESCRIPTION
    named = set[str]()
    if (folder / INDEX).exists() and not (folder / WHOLE).exists():
        with suppress(ValueError, KeyError, AttributeError):
            named = set(json.loads((folder / INDEX).read_bytes())["weight_map"].values())
    missing = sorted(name for name in named if not (folder / name).exists())
    if missing:
        return missing[0]
    return "" if any(folder.glob("*.safetensors")) else "weights as safetensors"


def _fetch(name: str) -> Path:
    try:
        _require_hub(name)  # snapshot_download itself would wait for ever
        folder = Path(snapshot_download(name, allow_patterns=FILES, etag_timeout=NETWORK_TIMEOUT_S))
        if lacking := find_lacking(folder):
            raise PolicyError(f"the model {name!r} has no {lacking} at {constants.ENDPOINT}: take another")
        return folder
    except PolicyError:
        raise
    except Exception as error:  # the hub's, and those of whichever HTTP library it stands on
        raise PolicyError(
            f"the model {name!r} is not on this machine and cannot be fetched from {constants.ENDPOINT} "
            f"({first_line(error)}). Check the name; where there is a network, `hf download {name}`; "
            "or set policy.model to a local folder, or to scratch"
        ) from error


def _require_hub(name: str) -> None:
    """Raises what the hub, or the way there, says against a model; TimeoutError where a name server is silent too."""
    said = SimpleQueue[Exception | None]()

    def ask() -> None:
        try:
            model_info(name, timeout=NETWORK_TIMEOUT_S)
            said.put(None)
        except Exception as error:
            said.put(error)

    Thread(target=ask, daemon=True).start()
    try:
        error = said.get(timeout=PATIENCE_S)
    except Empty:
        raise TimeoutError(f"no answer in {PATIENCE_S:.0f} s: timed out") from None
    if error:
        raise error


def first_line(error: Exception) -> str:
    """What an error says, without its details."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
