"""Policies that are LoRA adapters alone, as PEFT writes them: small folders, which name the model they belong to."""

import json
from pathlib import Path
from typing import NamedTuple

from models.policy.find import PolicyError, find_model, first_line

DESCRIPTION, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class Adapter(NamedTuple):
    """What a folder's adapters belong to: `Adapter(Path("…/checkpoints/9e1f…"), 16)`."""

    base: Path
    """The folder of the model."""
    rank: int


def find_adapter(folder: Path) -> Adapter | None:
    """What the adapters in a folder belong to; None for a folder of a whole policy. Raises PolicyError.

    The model is where it was, or beside them, where a home was moved; it may be a name of the Hugging Face hub.
    """
    path = folder / DESCRIPTION
    if not path.exists():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        recorded, rank = str(said["base_model_name_or_path"]), int(said["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PolicyError(f"{path} describes no LoRA adapters: {type(error).__name__} {first_line(error)}") from error
    if not (folder / WEIGHTS).exists():
        raise PolicyError(f"{folder} holds no {WEIGHTS}; adapters are opened from safetensors alone")
    beside = folder.parent / Path(recorded).name
    return Adapter(beside if beside != folder and beside.is_dir() else find_model(recorded), rank)
