"""What stands in examples/ is what the configuration models take, all of it of use where it is meant to run."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from flows import config
from flows.config import load_config

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_configuration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "find_spec", lambda name: find_spec("json") if name == "vllm" else find_spec(name))
    loaded = load_config(path, environ={})
    assert not loaded.is_scratch
    assert loaded.splits.benchmark >= 500, "smaller gains than five points are not seen"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_names_its_own_command(path: Path) -> None:
    assert f"flywheel run --config examples/{path.name}" in path.read_text()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2
