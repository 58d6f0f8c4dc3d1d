"""The home: one folder that holds everything a wheel has done, and may be moved or copied.

Only relative paths are ever stored in it, only its owner may read it, and only
one process at a time may write to it. A `Home` is just a path until opened.
"""

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import locks
from storage.files import OWNER_ONLY_FOLDER, clear_folder, write_once
from storage.locks import OnWait
from storage.records import now

FORMAT = 1
HOME_VARIABLE = "FLYWHEEL_HOME"
DEFAULT_HOME = ".flywheel"
IDENTITY = "home.json"
FOLDERS = ("lake", "checkpoints", "prefect", "logs", "tmp", "report")
FLOOR_BYTES = 256 * 1024**2
"""Free space that nothing of ours may eat into: a full disk harms more than this project."""


class HomeError(Exception):
    """The home cannot be used as it is."""


class HomeBusyError(HomeError):
    """Another process is writing to the home."""


class DiskFullError(HomeError):
    """There is, or would be, too little room on the home's disk."""


def default_home() -> Path:
    """Where the home is when nobody says: $FLYWHEEL_HOME, else .flywheel in the current folder."""
    return Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME)


@dataclass(frozen=True)
class Home:
    """`Home(Path(".flywheel"))` names a home; `Home.open(path)` makes or checks it."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(os.path.abspath(Path(self.root).expanduser())))

    @classmethod
    def open(cls, root: Path, create: bool = True) -> "Home":
        """The home at `root`, made where there is none; HomeError where it cannot be or is another thing."""
        home = cls(root)
        try:
            if create and not (home.root / IDENTITY).exists():
                home._make()
            home._check()
            if create:
                home._make_folders()
        except OSError as error:
            raise HomeError(
                f"cannot use {home.root} as a home: {error.strerror or error}. "
                f"Choose a folder you may write to with {HOME_VARIABLE}."
            ) from error
        return home

    @property
    def lake(self) -> Path:
        """The Parquet parts: the truth."""
        return self.root / "lake"

    @property
    def checkpoints(self) -> Path:
        """A Hugging Face folder for each checkpoint."""
        return self.root / "checkpoints"

    @property
    def prefect(self) -> Path:
        """PREFECT_HOME; may be deleted when nothing runs."""
        return self.root / "prefect"

    @property
    def logs(self) -> Path:
        """Logs of runs."""
        return self.root / "logs"

    @property
    def tmp(self) -> Path:
        """What is being built, on the same disk; emptied whenever a writer enters."""
        return self.root / "tmp"

    @property
    def drafts(self) -> Path:
        """Trainings that are not done."""
        return self.root / "drafts"

    @property
    def tensorboard(self) -> Path:
        """What TensorBoard shows, where that was asked for."""
        return self.root / "tensorboard"

    @property
    def report(self) -> Path:
        """The rendered report."""
        return self.root / "report"

    @property
    def published(self) -> Path:
        """The database for other tools; made anew from the lake where it is missing."""
        return self.root / "warehouse.duckdb"

    @property
    def queries(self) -> Path:
        """A person's own named queries; there where the person made it."""
        return self.root / "queries"

    @property
    def home_id(self) -> str:
        """Stays the same wherever the home is moved."""
        return str(self._identity()["home_id"])

    def resolve(self, relative: str) -> Path:
        """The full path of a path stored in the lake; HomeError when it leads out of the home."""
        path = Path(os.path.normpath(self.root / relative))
        if Path(relative).is_absolute() or not path.is_relative_to(self.root):
            raise HomeError(f"{relative!r} leads out of the home {self.root}; expected a path relative to it.")
        return path

    def relative(self, path: Path) -> str:
        """The form of a path that may be stored: relative to the home, with forward slashes."""
        full = Path(os.path.abspath(path))
        if not full.is_relative_to(self.root):
            raise HomeError(f"{path} is not inside the home {self.root}; only paths inside it may be stored.")
        return full.relative_to(self.root).as_posix()

    @contextlib.contextmanager
    def writer(self, on_wait: OnWait | None = None) -> Iterator[None]:
        """Be the one writer of this home; HomeBusyError says who is when that is another.

        With `on_wait` it is waited for instead, until that one ends or gives way: `on_wait` is told who it is, at
        each look, and ends the wait by raising.
        """
        try:
            with self._explained_locks():
                lock = locks.take(self.root, on_wait)
        except locks.BusyError as holder:
            raise HomeBusyError(
                f"the home {self.root} is being written by {holder}. Wait for it or stop it, "
                f"or choose another home with {HOME_VARIABLE}; reading (history, sql) works meanwhile."
            ) from holder
        try:
            self._make_folders()  # some of them may be deleted at any time
            clear_folder(self.tmp)
            yield
        finally:
            locks.release(self.root, lock)

    def give_way(self, on_wait: OnWait) -> None:
        """As the writer, with nothing half done: let those who wait write first, told of and ended as in `writer`."""
        locks.give_way(self.root, on_wait)

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[Callable[[str], None]]:
        """Be the only one with this name in the home, and say a line to who asks `claimed`.

        Raises HomeBusyError where another is. However this process ends, the claim ends with it.
        """
        try:
            with self._explained_locks(), locks.claim(self.root / name) as say:
                yield say
        except locks.BusyError as error:
            raise HomeBusyError(f"{name} is claimed in {self.root} by {error}.") from error

    def claimed(self, name: str) -> str:
        """What the process says that has claimed this name; empty where there is none."""
        return locks.claimed(self.root / name)

    def free_bytes(self) -> int:
        """Free space on the home's disk, in bytes."""
        existing = next(path for path in (self.root, *self.root.parents) if path.exists())
        return shutil.disk_usage(existing).free

    def require_space(self, num_bytes: int, purpose: str, floor_bytes: int = FLOOR_BYTES) -> None:
        """DiskFullError unless `num_bytes` can be written and the floor still stays free."""
        free = self.free_bytes()
        if free < num_bytes + floor_bytes:
            raise DiskFullError(
                f"{self.root} has {megabytes(free)} free; {purpose} needs {megabytes(num_bytes)} "
                f"and {megabytes(floor_bytes)} must stay free. {FREE_SPACE_ADVICE}"
            )

    @contextlib.contextmanager
    def explained_full_disk(self, what: str) -> Iterator[None]:
        """DiskFullError in place of the errors of a full disk, while `what` is written."""
        try:
            yield
        except Exception as error:
            if not _says_full_disk(error):
                raise
            raise DiskFullError(
                f"the disk of {self.root} is full: {megabytes(self.free_bytes())} free while writing {what}; "
                f"nothing of it was kept. {FREE_SPACE_ADVICE}"
            ) from error

    def _make(self) -> None:
        """Writes the identity first and under an exclusive name: the first of two makers wins."""
        self.root.mkdir(mode=OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
        strangers = [path.name for path in self.root.iterdir() if not path.name.startswith("." + IDENTITY)]
        if strangers and IDENTITY not in strangers:
            raise HomeError(
                f"{self.root} is not empty and has no {IDENTITY} (found {sorted(strangers)[0]!r}). "
                f"Choose an empty or new folder with {HOME_VARIABLE}."
            )
        self.root.chmod(OWNER_ONLY_FOLDER)
        identity = {"format": FORMAT, "home_id": secrets.token_hex(8), "created_at": now().isoformat()}
        write_once(self.root / IDENTITY, json.dumps(identity, indent=2).encode(), self.root)

    def _make_folders(self) -> None:
        for name in FOLDERS:
            if not (self.root / name).is_dir():
                (self.root / name).mkdir(mode=OWNER_ONLY_FOLDER, exist_ok=True)

    def _check(self) -> None:
        found = self._identity()["format"]
        if found > FORMAT:
            raise HomeError(
                f"the home {self.root} has format {found}; this code reads formats up to {FORMAT}. "
                "Upgrade the flywheel, or choose another home."
            )

    def _identity(self) -> dict[str, Any]:
        path = self.root / IDENTITY
        try:
            identity = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise HomeError(
                f"there is no home at {self.root}. `flywheel run` makes one; {HOME_VARIABLE} names another."
            ) from error
        except ValueError as error:
            raise HomeError(f"{path} is broken ({error}). Restore it from a backup of the home.") from error
        if not isinstance(identity, dict) or type(identity.get("format")) is not int or "home_id" not in identity:
            raise HomeError(f"{path} is broken: expected format and home_id. Restore it from a backup of the home.")
        return identity

    @contextlib.contextmanager
    def _explained_locks(self) -> Iterator[None]:
        try:
            yield
        except locks.LockError as error:
            raise HomeError(
                f"cannot write to the home {self.root}: {error}. "
                f"Open it first, or choose a folder you may write to with {HOME_VARIABLE}."
            ) from error


FREE_SPACE_ADVICE = f"Free some space there, or set {HOME_VARIABLE} to a folder on a larger disk."


def megabytes(num_bytes: int) -> str:
    """`1,234 MB`."""
    return f"{num_bytes / 1e6:,.0f} MB"


def _says_full_disk(error: Exception) -> bool:
    """Libraries written in Rust, such as safetensors, only say so in their text."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in codes or any(f"os error {code})" in str(error) for code in codes)
