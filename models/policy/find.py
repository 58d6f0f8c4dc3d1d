"""Finds a model's folder: a local one, else in the local Hugging Face cache, else, with a network, fetched.

Without torch, so that a model that is not there is told at once.
"""

from pathlib import Path

from huggingface_hub import constants, model_info, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

NETWORK_TIMEOUT_S = 4.0
"""For one answer of the hub, which its client asks for twice: a model that cannot be had is told within 10 s."""
FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""What a policy needs; no pickled weights, no code."""


class PolicyError(ValueError):
    """A policy that cannot be opened."""


def find_model(name: str) -> Path:
    """The folder of a model: a local folder, else from the cache, else fetched. Raises PolicyError."""
    if name and Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise PolicyError(f"there is no folder {name!r}; policy.model is a Hugging Face folder or name, or scratch")
    try:
        return Path(snapshot_download(name, allow_patterns=FILES, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return _fetch(name)


def _fetch(name: str) -> Path:
    try:
        model_info(name, timeout=NETWORK_TIMEOUT_S)  # snapshot_download itself would wait for ever
        return Path(snapshot_download(name, allow_patterns=FILES, etag_timeout=NETWORK_TIMEOUT_S))
    except Exception as error:  # the hub's, and those of whichever HTTP library it stands on
        raise PolicyError(
            f"the model {name!r} is not on this machine and cannot be fetched from {constants.ENDPOINT} "
            f"({first_line(error)}). Check the name; where there is a network, `hf download {name}`; "
            "or set policy.model to a local folder, or to scratch"
        ) from error


def first_line(error: Exception) -> str:
    """What an error says, without its details."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
