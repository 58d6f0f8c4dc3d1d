"""Engines between their uses, so that the shards of a round load its policy once each thread."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import torch

from models.cores import num_cores
from models.memory import WARN, Say
from models.policy.load import open_engine
from models.policy.protocol import Engine
from models.policy.settings import PolicySettings

Idle = tuple[Path, PolicySettings, Engine]

_idle: list[Idle] = []
_lock = Lock()
_all_threads = min(torch.get_num_threads(), num_cores())


@contextmanager
def borrowed_engine(folder: Path, settings: PolicySettings, say: Say = WARN) -> Iterator[Engine]:
    """An engine with the policy of a folder, for one user at a time; idle ones of other policies are let go.

    An engine in which something failed is not used again.
    """
    engine = _take(folder, settings) or open_engine(folder, settings, say)
    try:
        with _threads(settings.threads):
            yield engine
    except BaseException:
        engine.close()
        raise
    with _lock:
        _idle.append((folder, settings, engine))


def _take(folder: Path, settings: PolicySettings) -> Engine | None:
    with _lock:
        _close([entry for entry in _idle if entry[:2] != (folder, settings)])
        return _idle.pop()[2] if _idle else None


@contextmanager
def _threads(num: int) -> Iterator[None]:
    """Let torch use so many threads for this thread's work; torch counts them for each of ours apart."""
    torch.set_num_threads(num or _all_threads)
    try:
        yield
    finally:
        torch.set_num_threads(_all_threads)


def release_engines() -> None:
    """Let go of every idle engine, and of the GPU memory that nothing is in: training needs it, or another process."""
    with _lock:
        _close(list(_idle))
    gc.collect()
    torch.cuda.empty_cache()


def _close(entries: list[Idle]) -> None:
    for entry in entries:
        _idle.remove(entry)
        entry[2].close()
