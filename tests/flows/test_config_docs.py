"""flywheel.toml and docs/configuration.md say what the settings say."""

import re
import tomllib
from pathlib import Path

import pytest

from flows.config import Config, differences, load_config
from flows.config_docs import COMMAND, DOCS, TOML, write_docs, write_toml
from storage.problems import KINDS

SETTING = re.compile(r"^# (?=\w+ = )", re.MULTILINE)
EXAMPLE = re.compile(r"^# \[problems\]\n(?:# \w+ = .*\n)+", re.MULTILINE)
STALE = f"is stale; rewrite it: {COMMAND}"
TEXT = TOML.read_text(encoding="utf-8")


def uncomment(text: str) -> str:
    return SETTING.sub("", text).replace("# [problems]", "[problems]")


def test_flywheel_toml_is_fresh() -> None:
    assert write_toml() == TEXT, f"flywheel.toml {STALE}"


def test_the_tables_are_fresh() -> None:
    docs = DOCS.read_text(encoding="utf-8")
    assert write_docs(docs) == docs, f"docs/configuration.md {STALE}"


def test_flywheel_toml_says_every_setting_and_its_default() -> None:
    said = tomllib.loads(uncomment(EXAMPLE.sub("", TEXT)))
    assert said == Config().model_dump(mode="json")
    assert list(said) == list(Config.model_fields)


def test_flywheel_toml_as_it_is_gives_the_defaults() -> None:
    assert load_config(TOML, (), {}) == Config()


@pytest.mark.parametrize("model", ["policy.model=some/model"])
@pytest.mark.parametrize("problems", [["problems.kind=file", "problems.path=a.jsonl"], []])
def test_flywheel_toml_never_stands_in_the_way_of_another_choice(problems: list[str], model: str) -> None:
    sets = [*problems, model]
    assert load_config(TOML, sets, {}) == load_config(Path("/dev/null"), sets, {})


@pytest.mark.parametrize("example", EXAMPLE.findall(TEXT))
def test_an_example_of_other_problems_holds_every_key(example: str, tmp_path: Path) -> None:
    path = tmp_path / "flywheel.toml"
    path.write_text(uncomment(example), encoding="utf-8")
    problems = load_config(path, ["policy.model=some/model"], {}).problems
    assert list(tomllib.loads(uncomment(example))["problems"]) == list(vars(problems))


def test_every_kind_of_problems_is_shown() -> None:
    kinds = re.findall(r'^#? ?kind = "(\w+)"', TEXT, re.MULTILINE)
    assert kinds == list(KINDS)


def test_a_line_of_flywheel_toml_may_be_changed_alone(tmp_path: Path) -> None:
    path = tmp_path / "flywheel.toml"
    path.write_text(TEXT.replace('model = "scratch"', 'model = "some/model"'), encoding="utf-8")
    changed = differences(Config(), load_config(path, (), {}))
    assert changed[:2] == ["run.workers: 2 → 1", "policy.model: scratch → some/model"]
    assert len(changed) == 10
