from pathlib import Path

import pytest

from models.policy.load import Policy, save_policy
from models.policy.pool import borrowed_engine, release_engines
from models.policy.settings import PolicySettings

SETTINGS = PolicySettings(device="cpu")


@pytest.fixture
def folder(policy: Policy, tmp_path: Path) -> Path:
    release_engines()
    save_policy(policy, tmp_path)
    return tmp_path


def test_an_engine_is_lent_again_to_one_user_at_a_time(folder: Path) -> None:
    with borrowed_engine(folder, SETTINGS) as first, borrowed_engine(folder, SETTINGS) as beside:
        assert beside is not first
    with borrowed_engine(folder, SETTINGS) as again:
        assert again is first


def test_an_engine_in_which_something_failed_is_not_lent_again(folder: Path) -> None:
    with pytest.raises(MemoryError), borrowed_engine(folder, SETTINGS) as failed:
        raise MemoryError
    with borrowed_engine(folder, SETTINGS) as engine:
        assert engine is not failed


def test_other_settings_get_another_engine_and_the_idle_one_goes(folder: Path) -> None:
    with borrowed_engine(folder, SETTINGS) as first:
        pass
    with borrowed_engine(folder, PolicySettings(device="cpu", max_rows=4)) as other:
        assert other is not first
    with borrowed_engine(folder, SETTINGS) as engine:
        assert engine is not first


def test_released_engines_are_gone(folder: Path) -> None:
    with borrowed_engine(folder, SETTINGS) as first:
        pass
    release_engines()
    with borrowed_engine(folder, SETTINGS) as engine:
        assert engine is not first
