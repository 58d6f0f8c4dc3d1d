"""Locks on files of a folder: who writes, who waits to, and who claims a name.

The kernel frees a lock however its holder dies. It is not passed to programs that the
holder starts, and forked children let go of it at once.
"""

import contextlib
import fcntl
import getpass
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep

from storage.files import OWNER_ONLY_FILE
from storage.records import now

WRITER = "writer.lock"
QUEUE = "queue.lock"
"""Shared by all who wait to write."""
LOOK_S = 0.2
"""Seconds between looks at a lock that another holds."""

OnWait = Callable[[str], None]
"""Told who holds the lock, at each look; ends the wait by raising."""


class BusyError(Exception):
    """Another process holds the lock; says who."""


class LockError(Exception):
    """A lock's file cannot be opened; says why."""


_held: dict[Path, int] = {}


def _drop_in_child() -> None:
    """A forked child shares its parent's lock; left open, it would hold the folder after the parent's death."""
    while _held:
        os.close(_held.popitem()[1])


os.register_at_fork(after_in_child=_drop_in_child)


def take(folder: Path, on_wait: OnWait | None = None) -> int:
    """Become the one writer of a folder, to be given to `release`; without `on_wait`, BusyError where there is one."""
    lock = _open(folder / WRITER)
    try:
        _take(lock) if on_wait is None else _queue(folder, lock, on_wait)
    except BaseException:
        os.close(lock)
        raise
    _held[folder] = lock
    return lock


def release(folder: Path, lock: int, *, is_signed: bool = True) -> None:
    """Closes the lock, unless that is done: by a forked child that let go of it, or by a wait that was ended."""
    if _held.get(folder) == lock:
        del _held[folder]
        if is_signed:
            os.ftruncate(lock, 0)
        os.close(lock)


def give_way(folder: Path, on_wait: OnWait) -> None:
    """As the writer: let those who wait write first."""
    lock = _held[folder]
    if not _has_queue(folder):
        return
    os.ftruncate(lock, 0)
    fcntl.flock(lock, fcntl.LOCK_UN)
    try:
        while _has_queue(folder):
            on_wait(_describe_holder(lock))
            sleep(LOOK_S)
        _wait(lock, on_wait)
    except BaseException:
        release(folder, lock, is_signed=False)  # another may hold it, and has signed
        raise


@contextlib.contextmanager
def claim(path: Path) -> Iterator[Callable[[str], None]]:
    """Be the only one to claim this file, and say a line to who asks `claimed`. Raises BusyError where another does."""
    lock = _open(path)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError("another process") from error
        os.ftruncate(lock, 0)
        yield lambda line: _write_at_start(lock, line)
    finally:
        os.close(lock)


def claimed(path: Path) -> str:
    """What the process says that claims this file; empty where there is none."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return ""
    except BlockingIOError:
        return os.pread(lock, 4096, 0).decode()
    finally:
        os.close(lock)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY_FILE)
    except OSError as error:
        raise LockError(error.strerror) from error


def _take(lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyError(_describe_holder(lock)) from error
    _write_at_start(lock, json.dumps(_signature()))


def _queue(folder: Path, lock: int, on_wait: OnWait) -> None:
    """Wait where the writer sees it, and will give way."""
    queue = _open(folder / QUEUE)
    try:
        fcntl.flock(queue, fcntl.LOCK_SH)
        _wait(lock, on_wait)
    finally:
        os.close(queue)


def _wait(lock: int, on_wait: OnWait) -> None:
    while True:
        try:
            return _take(lock)
        except BusyError as holder:
            on_wait(str(holder))
            sleep(LOOK_S)


def _has_queue(folder: Path) -> bool:
    queue = _open(folder / QUEUE)
    try:
        fcntl.flock(queue, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(queue)
    return False


def _write_at_start(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def signature() -> str:
    """Who this process is, for people."""
    return _describe(_signature())


def _signature() -> dict[str, object]:
    return {"user": _user(), "host": socket.gethostname(), "pid": os.getpid(), "since": now().isoformat("T", "seconds")}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id may have no name
        return str(os.getuid())


def _describe_holder(lock: int) -> str:
    try:
        return _describe(json.loads(os.pread(lock, 4096, 0)))
    except (ValueError, KeyError, TypeError):  # it took the lock and has not signed yet
        return "a process that is just starting"


def _describe(holder: dict[str, object]) -> str:
    return f"{holder['user']} on {holder['host']}, process {holder['pid']}, since {holder['since']}"
