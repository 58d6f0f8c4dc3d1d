"""Every command that the documents show is one: short ones are run, long ones are checked."""

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from flows.config import load_config
from tests.flows.conftest import Wheel

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "AGENTS.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`((?:flywheel|make|python) [^`]+)`(?!`)")
TOO_LONG = {"run", "serve"}
"""Commands that other tests run."""


def documented() -> list[str]:
    """Commands without their comments, each once."""
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
    blocks = [line for text in texts for block in BLOCK.findall(text) for line in block.splitlines()]
    inline = [command for text in texts for command in INLINE.findall(text)]
    return list(dict.fromkeys(line.partition("  #")[0].strip() for line in [*blocks, *inline] if line.strip()))


def of(program: str) -> list[list[str]]:
    """The arguments of a program's commands; settings of the environment before it are left out."""
    commands = [list(itertools.dropwhile(is_setting, shlex.split(line))) for line in documented()]
    return [words[1:] for words in commands if words[0] == program]


def is_setting(word: str) -> bool:
    return re.match("[A-Z_]+=", word) is not None


def is_whole(arguments: list[str]) -> bool:
    """Whether it is shown to its end."""
    return not any("…" in word for word in arguments)


def named(arguments: list[str]) -> str:
    return " ".join(arguments)[:60]


def test_every_command_is_of_a_known_program() -> None:
    programs = ("flywheel", "make", "python", "prefect")
    assert all(of(name) for name in programs)
    assert sum(len(of(name)) for name in programs) == len(documented())


@pytest.mark.parametrize("arguments", [a for a in of("flywheel") if is_whole(a) and a[0] not in TOO_LONG], ids=named)
def test_a_command_runs(arguments: list[str], wheel: Wheel) -> None:
    done = wheel(*arguments)
    assert done.stdout.strip() and not done.stderr


@pytest.mark.parametrize("arguments", [a for a in of("flywheel") if a[0] in TOO_LONG], ids=named)
def test_a_run_is_shown_with_settings_that_are_there(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.config.find_spec", lambda name: "there")  # whatever is installed here
    pairs = [value for flag, value in itertools.pairwise(arguments) if flag == "--set"]
    if not (is_whole(arguments) or any(pair.startswith("policy.model=") for pair in pairs)):
        pairs.append("initialization.file=demonstrations.jsonl")
    assert load_config(None, pairs, {})


@pytest.mark.parametrize("arguments", of("make"), ids=named)
def test_a_make_target_is_there(arguments: list[str]) -> None:
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [a for a in of("python") if a[:2] == ["-m", "models.policy.keeper"]], ids=named)
def test_the_keeper_is_shown_with_options_that_it_has(arguments: list[str]) -> None:
    command = [sys.executable, *arguments[:2], "--help"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(option in told for option in arguments[2:] if option.startswith("--"))


@pytest.mark.parametrize("arguments", [a for a in of("python") if a[0].startswith("benchmarks/")], ids=named)
def test_a_benchmark_explains_itself(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, arguments[0], "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "usage" in done.stdout
