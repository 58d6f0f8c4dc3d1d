"""The home: one folder that holds everything a wheel has done, and may be moved or copied.

Only relative paths are ever stored in it, only its owner may read it, and only
one process at a time may write to it. A `Home` is just a path until opened.
"""

import contextlib
import errno
import fcntl
import getpass
import json
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

from storage.records import now

FORMAT = 1
HOME_VARIABLE = "FLYWHEEL_HOME"
DEFAULT_HOME = ".flywheel"
IDENTITY = "home.json"
WRITER_LOCK = "writer.lock"
QUEUE_LOCK = "queue.lock"
"""Shared by all who wait to write."""
LOOK_S = 0.2
"""Seconds between looks at a lock that another holds."""
FOLDERS = ("lake", "checkpoints", "prefect", "logs", "tmp", "report")
OWNER_ONLY_FOLDER = 0o700
OWNER_ONLY_FILE = 0o600
FLOOR_BYTES = 256 * 1024**2
"""Free space that nothing of ours may eat into: a full disk harms more than this project."""


class HomeError(Exception):
    """The home cannot be used as it is."""


class HomeBusyError(HomeError):
    """Another process is writing to the home."""


class DiskFullError(HomeError):
    """There is, or would be, too little room on the home's disk."""


_held_locks: dict[Path, int] = {}


def _drop_locks_in_child() -> None:
    """A forked child shares its parent's lock; left open, it would hold the home after the parent's death."""
    while _held_locks:
        os.close(_held_locks.popitem()[1])


os.register_at_fork(after_in_child=_drop_locks_in_child)


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
        """PREFECT_HOME; may be deleted at any time."""
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
    def writer(self, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
        """Be the one writer of this home; HomeBusyError says who is when that is another.

        With `on_wait` it is waited for instead, until that one ends or gives way: `on_wait` is told who it is, at
        each look, and ends the wait by raising. The kernel frees the lock however its holder dies. It is not passed
        to programs the holder starts, and forked children let go of it at once.
        """
        lock = self._open_lock(WRITER_LOCK)
        try:
            self._take(lock) if on_wait is None else self._queue(lock, on_wait)
        except BaseException:
            os.close(lock)
            raise
        _held_locks[self.root] = lock
        try:
            clear_folder(self.tmp)
            yield
        finally:
            _release(self.root, lock)

    def give_way(self, on_wait: Callable[[str], None]) -> None:
        """As the writer, with nothing half done: let those who wait write first, told of and ended as in `writer`."""
        lock = _held_locks[self.root]
        if self._has_queue():
            os.ftruncate(lock, 0)
            fcntl.flock(lock, fcntl.LOCK_UN)
            try:
                while self._has_queue():
                    on_wait(_describe_holder(lock))
                    sleep(LOOK_S)
                self._wait(lock, on_wait)
            except BaseException:
                _release(self.root, lock, signed=False)  # another may hold it, and has signed
                raise

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[Callable[[str], None]]:
        """Be the only one with this name in the home, and say a line to who asks `claimed`.

        Raises HomeBusyError where another is. However this process ends, the claim ends with it.
        """
        lock = self._open_lock(name)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            yield lambda line: _write_at_start(lock, line)
        except BlockingIOError as error:
            raise HomeBusyError(f"{name} is claimed in {self.root} by another process.") from error
        finally:
            os.close(lock)

    def claimed(self, name: str) -> str:
        """What the process says that has claimed this name; empty where there is none."""
        try:
            lock = os.open(self.root / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return ""
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return ""
        except BlockingIOError:
            return os.pread(lock, 4096, 0).decode()
        finally:
            os.close(lock)

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

    def _open_lock(self, name: str) -> int:
        try:
            return os.open(self.root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY_FILE)
        except OSError as error:
            raise HomeError(
                f"cannot write to the home {self.root}: {error.strerror}. "
                f"Open it first, or choose a folder you may write to with {HOME_VARIABLE}."
            ) from error

    def _take(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HomeBusyError(
                f"the home {self.root} is being written by {_describe_holder(lock)}. Wait for it or stop it, "
                f"or choose another home with {HOME_VARIABLE}; reading (history, sql) works meanwhile."
            ) from error
        _write_at_start(lock, json.dumps(_signature()))

    def _queue(self, lock: int, on_wait: Callable[[str], None]) -> None:
        """Wait where the writer sees it, and will give way."""
        queue = self._open_lock(QUEUE_LOCK)
        try:
            fcntl.flock(queue, fcntl.LOCK_SH)
            self._wait(lock, on_wait)
        finally:
            os.close(queue)

    def _wait(self, lock: int, on_wait: Callable[[str], None]) -> None:
        while True:
            try:
                return self._take(lock)
            except HomeBusyError:
                on_wait(_describe_holder(lock))
                sleep(LOOK_S)

    def _has_queue(self) -> bool:
        queue = self._open_lock(QUEUE_LOCK)
        try:
            fcntl.flock(queue, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(queue)
        return False


FREE_SPACE_ADVICE = f"Free some space there, or set {HOME_VARIABLE} to a folder on a larger disk."


def megabytes(num_bytes: int) -> str:
    """`1,234 MB`."""
    return f"{num_bytes / 1e6:,.0f} MB"


def _says_full_disk(error: Exception) -> bool:
    """Libraries written in Rust, such as safetensors, only say so in their text."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in codes or any(f"os error {code})" in str(error) for code in codes)


def clear_folder(folder: Path) -> None:
    """Removes all that is in a folder, but not the folder."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_once(path: Path, content: bytes, workspace: Path) -> bool:
    """Publishes a whole file, durably, at a name that nobody holds; False, changing nothing, where one does.

    Built in `workspace` on the same disk and linked into place, so that no
    reader ever sees a part of it and nothing is ever overwritten.
    """
    draft = workspace / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        write_durably(draft, content)
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)
    return True


def write_durably(path: Path, content: bytes) -> None:
    """Writes a new file that its owner alone may read, and waits until it is on the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(path, flags, OWNER_ONLY_FILE), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Waits until a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_at_start(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def _release(root: Path, lock: int, *, signed: bool = True) -> None:
    """Closes the lock, unless that is done: by a forked child that let go of it, or by a wait that was ended."""
    if _held_locks.get(root) == lock:
        del _held_locks[root]
        if signed:
            os.ftruncate(lock, 0)
        os.close(lock)


def _signature() -> dict[str, object]:
    return {"user": _user(), "host": socket.gethostname(), "pid": os.getpid(), "since": now().isoformat("T", "seconds")}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id may have no name
        return str(os.getuid())


def _describe_holder(lock: int) -> str:
    try:
        holder = json.loads(os.pread(lock, 4096, 0))
        return f"{holder['user']} on {holder['host']}, process {holder['pid']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError):  # it took the lock and has not signed yet
        return "a process that is just starting"
