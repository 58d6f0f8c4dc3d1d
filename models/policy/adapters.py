"""Policies that are LoRA adapters alone, as PEFT writes them: small folders, beside the model that they belong to."""

import json
from pathlib import Path
from typing import NamedTuple

from models.policy.find import PolicyError

DESCRIPTION, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class Adapter(NamedTuple):
    """What a folder's adapters belong to: `Adapter(Path("…/checkpoints/9e1f…"), 16)`."""

    base: Path
    """The folder of the model."""
    rank: int


def find_adapter(folder: Path) -> Adapter | None:
    """What the adapters in a folder belong to, which they name; None for a folder of whole weights.

    Raises PolicyError for adapters of another kind, or without their model.
    """
    path = folder / DESCRIPTION
    if not path.exists():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        kind, name, rank = said["peft_type"], said["base_model_name_or_path"], said["r"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PolicyError(f"{path} describes no adapters: {type(error).__name__} {error}") from error
    if kind != "LORA" or type(rank) is not int:
        raise PolicyError(f"{path} describes adapters of kind {kind} and rank {rank}; expected LORA and a whole number")
    base, is_name = folder.parent / str(name), name not in ("", "..") and Path(str(name)).name == name
    if not is_name or not base.is_dir() or (base / DESCRIPTION).exists():
        raise PolicyError(f"the adapters in {folder} belong to whole weights in {name!r}, which are not beside them")
    if not (folder / WEIGHTS).exists():
        raise PolicyError(f"{folder} holds no {WEIGHTS}; adapters are opened from safetensors alone")
    return Adapter(base, rank)
