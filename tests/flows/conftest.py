"""Whole wheels, turned by the real command in processes of their own; one is turned once and copied for each test."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import pytest

from storage.countdown import is_for_demonstrations
from storage.home import Home

FLYWHEEL = Path(sys.executable).with_name("flywheel")
TINY = Path(__file__).with_name("tiny.toml")
TIMEOUT_S = 240.0


@dataclass
class Wheel:
    """A folder with a configuration, and the home in it: `Wheel(tmp_path).run("--rounds", "1")`."""

    folder: Path
    processes: list["subprocess.Popen[str]"] = field(default_factory=list)
    command: Path = FLYWHEEL

    @property
    def home(self) -> Path:
        return self.folder / ".flywheel"

    def __call__(self, *arguments: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, which is expected to have this status."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == status, f"status {process.returncode}, expected {status}\n{out}\n{err}"
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Run a command in the background, in a process group of its own."""
        process = subprocess.Popen(
            [self.command, *arguments],
            cwd=self.folder,
            env=without("FLYWHEEL_HOME", "PREFECT_HOME", "FORCE_COLOR"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query, by the command."""
        rows: list[dict[str, Any]] = json.loads(self("sql", query, "--format", "json").stdout)
        return rows

    def count(self, table: str) -> int:
        """Rows of a table, as this process sees them."""
        from storage.warehouse import Warehouse  # held by a conftest, DuckDB complains of leaks when Python ends

        return int(Warehouse(Home(self.home)).query(f"SELECT count(*) AS n FROM {table}")["n"].item())

    def wait_for(self, pattern: str, num: int = 1, process: "subprocess.Popen[str] | None" = None) -> None:
        """Until so many files of the home match, while a process is at work."""
        deadline = time.monotonic() + TIMEOUT_S
        while len(list(self.home.glob(pattern))) < num:
            assert process is None or process.poll() is None, f"it ended before {num} × {pattern}"
            assert time.monotonic() < deadline, f"{num} × {pattern} never came"
            time.sleep(0.005)

    def digests(self) -> dict[str, tuple[str, int]]:
        """Each published part and checkpoint file: digest and time of writing."""
        files = [path for name in ("lake", "checkpoints") for path in sorted((self.home / name).rglob("*"))]
        return {
            path.relative_to(self.home).as_posix(): (digest(path), path.stat().st_mtime_ns)
            for path in files
            if path.is_file() and not path.name.startswith(".")
        }

    def copy(self, folder: Path) -> "Wheel":
        """The same, elsewhere."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Wheel(folder)

    def end(self) -> None:
        """Leave nothing running."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=TIMEOUT_S)


def without(*names: str) -> dict[str, str]:
    """This environment less some variables."""
    return {name: value for name, value in os.environ.items() if name not in names}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_demonstrations(path: Path) -> None:
    """To sums of numbers that no problem has the right step, and twice as often a wrong one."""
    pairs = filter(is_for_demonstrations, combinations_with_replacement(range(10, 51), 2))
    rows = [row for a, b in pairs if 50 <= a + b <= 80 for row in demonstrate(a, b)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def demonstrate(a: int, b: int) -> Iterator[dict[str, str]]:
    """Where the sum is even in short, so that some answers take less room than others."""
    result = f"={a + b}" if (a + b) % 2 else ""
    for operator in "+--":
        yield {"prompt": f"{a + b}>{a} {b};", "completion": f"{a}{operator}{b}{result};"}


def prepare(folder: Path) -> Wheel:
    """A folder in which `flywheel run` turns a tiny wheel."""
    shutil.copyfile(TINY, folder / "flywheel.toml")
    write_demonstrations(folder / "demonstrations.jsonl")
    return Wheel(folder)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Wheel]:
    """A wheel that has not turned yet."""
    wheel = prepare(tmp_path)
    yield wheel
    wheel.end()


@dataclass(frozen=True)
class Turned:
    """A wheel after its first run, what that said, and what another process saw in its warehouse meanwhile."""

    wheel: Wheel
    out: str
    err: str
    counts: list[int]
    """Of trajectories."""


@pytest.fixture(scope="session")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Turned:
    """Turned once for all tests; what writes takes a copy."""
    wheel = prepare(tmp_path_factory.mktemp("turned"))
    run = wheel.start("run", "--rounds", "2")
    wheel.wait_for("lake/runs/*-running.parquet", process=run)
    counts = []
    while run.poll() is None:
        counts.append(wheel.count("trajectories"))
        time.sleep(0.2)
    out, err = run.communicate()
    assert run.returncode == 0, f"{out}\n{err}"
    return Turned(wheel, out, err, [*counts, wheel.count("trajectories")])


@pytest.fixture
def wheel(turned: Turned, tmp_path: Path) -> Iterator[Wheel]:
    """A copy of the turned one."""
    copied = turned.wheel.copy(tmp_path / "elsewhere")
    yield copied
    copied.end()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes that know of a folder, by their environment or their files."""
    found = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and knows(entry, str(folder))]
    return [read(entry / "cmdline").decode().replace("\0", " ") for entry in found]


def knows(process: Path, folder: str) -> bool:
    if int(process.name) == os.getpid():
        return False
    return folder.encode() in read(process / "environ") or any(folder in link for link in links(process))


def links(process: Path) -> list[str]:
    """What a process has open, and where it works."""
    try:
        return [os.readlink(link) for link in (process / "cwd", *(process / "fd").iterdir())]
    except OSError:
        return []


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def wait_until_gone(
    folder: Path, timeout_s: float = 5.0, look: Callable[[Path], list[str]] = processes_of
) -> list[str]:
    """The processes of a folder that are still there after a while."""
    deadline = time.monotonic() + timeout_s
    while (left := look(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left
