"""Files and folders that their owner alone may read, written whole or not at all."""

import os
import secrets
import shutil
from pathlib import Path

OWNER_ONLY_FOLDER = 0o700
OWNER_ONLY_FILE = 0o600


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
        if draft.stat().st_nlink < 2:  # else NFS made the link and lost its answer: open(2)
            return False
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)
    return True


def replace(path: Path, content: bytes) -> None:
    """Put a whole file in its place, its owner's alone; who reads meanwhile sees the old one or the new."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        write_durably(draft, content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


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
