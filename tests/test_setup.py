"""setup.sh says every trouble in one line with its fix, and does nothing the second time.

A script plays Python and pip, but for the test without a network, where both are real.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = ("setup.sh", "pyproject.toml", "constraints.txt", "README.md")
COMMANDS = ("sh", "awk", "cat", "chmod", "cksum", "cp", "cut", "df", "dirname", "grep", "mkdir", "rm", "sed", "tail")
PLAY = """\
#!/bin/sh
# Plays a Python: asked for its version, for itself, for modules, to make an environment and to run pip.
case "$*" in
*version_info*) echo "$VERSION" ;;
*_base_executable*) command -v python3 ;;
*ensurepip*) exit "${NO_VENV:-0}" ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip "*) echo "$*" >>pip.calls && [ -z "${PIP_SAYS:-}" ] || { echo "$PIP_SAYS" && exit 1; } ;;
*) exit 2 ;;
esac
"""

Setup = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what set-up reads."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def setup(project: Path, tmp_path: Path) -> Setup:
    """Runs setup.sh on a machine with a played python3 and few other commands."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for command in COMMANDS:
        (bin_folder / command).symlink_to(shutil.which(command) or pytest.fail(f"no {command} here"))
    python = bin_folder / "python3"
    python.write_text(PLAY)
    python.chmod(0o755)

    def run(**environ: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": str(bin_folder), "VERSION": "3.12.4", "SETUP_DISK_MB": "1"} | environ
        return subprocess.run(["sh", "setup.sh"], cwd=project, env=environ, capture_output=True, text=True)

    return run


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """The one line on standard error."""
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    return line


def test_too_old_a_python(setup: Setup) -> None:
    assert refusal(setup(VERSION="3.10.12")) == (
        "setup: Python 3.11 to 3.14 is needed, and python3 is 3.10.12. Install one (Debian: apt install python3 "
        "python3-venv), then name it: PYTHON=python3.12 make setup"
    )


def test_a_python_that_is_not_there(setup: Setup) -> None:
    assert "and python9 is not there." in refusal(setup(PYTHON="python9"))


def test_no_venv_module(setup: Setup, tmp_path: Path) -> None:
    assert refusal(setup(NO_VENV="1")) == (
        f"setup: {tmp_path}/bin/python3 (Python 3.12.4) has no venv module. Install it (Debian: apt install "
        "python3-venv), then run make setup again."
    )


def test_too_little_disk(setup: Setup, project: Path) -> None:
    line = refusal(setup(SETUP_DISK_MB="999999999"))
    assert line.startswith(f"setup: {project} has ")
    assert line.endswith("the packages need about 999999999 MB. Free some space, then run make setup again.")
    assert not (project / ".venv").exists()


@pytest.mark.parametrize(
    ("said", "start"),
    [
        ("OSError: [Errno 28] No space left on device", "setup: the disk filled up under .venv or "),
        ("Failed to establish a new connection", "setup: the package index cannot be reached. Check the network, "),
        ("ERROR: Something else", "setup: pip failed: ERROR: Something else. Mend that, then run make setup again."),
    ],
)
def test_what_pip_says_becomes_one_line(setup: Setup, said: str, start: str) -> None:
    assert refusal(setup(PIP_SAYS=said)).startswith(start)


def test_a_second_run_does_nothing(setup: Setup, project: Path) -> None:
    assert "Set up: .venv has Python 3.12.4" in setup().stdout
    calls = (project / "pip.calls").read_text()
    second = setup()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert (project / "pip.calls").read_text() == calls


def test_changed_constraints_are_installed(setup: Setup, project: Path) -> None:
    setup()
    with (project / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert "Set up" in setup().stdout
    assert len((project / "pip.calls").read_text().splitlines()) == 2


def test_a_set_up_that_failed_is_done_again(setup: Setup) -> None:
    refusal(setup(PIP_SAYS="ERROR: Something else"))
    assert "Set up" in setup().stdout


def test_torch_comes_from_the_index_that_is_named(setup: Setup, project: Path) -> None:
    setup(TORCH_INDEX="http://index/cuda")
    first = (project / "pip.calls").read_text().splitlines()[0]
    assert first.endswith("--no-deps --index-url http://index/cuda torch")


@pytest.mark.slow  # a real environment takes some 10 s
def test_no_network(project: Path) -> None:
    closed = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1", "PIP_CONFIG_FILE": os.devnull}
    settings = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, "SETUP_DISK_MB": "1"}
    result = subprocess.run(["sh", "setup.sh"], cwd=project, env=settings | closed, capture_output=True, text=True)
    assert refusal(result) == (
        "setup: the package index cannot be reached. Check the network, or the proxy (HTTPS_PROXY) and index "
        "(PIP_INDEX_URL, TORCH_INDEX) given to pip, then run make setup again. Details: .venv/setup.log"
    )
