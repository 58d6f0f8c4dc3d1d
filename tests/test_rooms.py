"""The four rooms are ours, and tests leave the machine's own state alone."""

import importlib
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("room", ["flows", "tasks", "models", "storage"])
def test_a_room_is_the_one_in_this_repository(room: str) -> None:
    module = importlib.import_module(room)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve() == ROOT / room / "__init__.py"


@pytest.mark.parametrize("variable", ["FLYWHEEL_HOME", "PREFECT_HOME"])
def test_state_goes_to_a_temporary_folder(variable: str) -> None:
    home = Path(os.environ[variable])
    assert not home.is_relative_to(ROOT)
    assert not home.is_relative_to(Path.home() / ".prefect")


def test_tests_have_one_thread_and_no_hub() -> None:
    assert os.environ["OMP_NUM_THREADS"] == "1"
    assert os.environ["HF_HUB_OFFLINE"] == "1"
