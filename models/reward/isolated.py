"""Runs checkers that are not trusted with model text in worker processes of their own.

One bad item costs only its own mark: a worker that takes too long, too much
memory or dies is replaced. Workers write no file, start no process and open no
connection, and die with their parent. This contains accidents and clumsy
attacks; it is no sandbox for programs, which are not run here.
"""

import fcntl
import math
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.util import Finalize
from threading import Lock
from time import monotonic
from typing import Any

from pebble import ProcessExpired, ProcessPool

from models.reward.protocol import Judgement

MAX_CHARS = 20_000
"""Longer texts are not sent to a checker."""
MAX_ANSWER_CHARS = 200
MEMORY_BYTES = 1 << 30
TIMEOUT_S = 5.0
NUM_WORKERS = max(1, min(4, os.cpu_count() or 1))
STALL_S = 120.0
"""Beyond the time-out, how long nothing may come of any item before those that are left are lost.

Workers take some of it to start. The pool loses an item whose worker dies so soon that it never learnt who had it.
"""
LOOK_S = 5.0
POOL_TRIES = 2
OUT_OF_MEMORY = 77
"""Exit status of a worker that ran out of memory."""

REFUSED_EVENTS = ("os.", "socket.", "subprocess.", "ctypes.", "shutil.", "pty.", "signal.pthread_kill")
HARMLESS_EVENTS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk")
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

LOST = Judgement(solved=False, reason="error", answer="the checker died")

Item = tuple[Any, ...]
"""Arguments of a check, hashable."""


class Isolated:
    """Calls `check(*item)` in workers that first called `load()`; both are top-level functions of a module.

    Workers start at the first item and are kept. Several threads may judge at once.
    """

    def __init__(
        self,
        check: Callable[..., Judgement],
        load: Callable[[], None],
        *,
        timeout_s: float = TIMEOUT_S,
        memory_bytes: int = MEMORY_BYTES,
        num_workers: int = NUM_WORKERS,
        stall_s: float = STALL_S,
    ) -> None:
        self.check = check
        self.load = load
        self.timeout_s = timeout_s
        self.memory_bytes = memory_bytes
        self.num_workers = num_workers
        self.stall_s = stall_s
        self._pool: ProcessPool | None = None
        self._moved = 0.0
        """When an item was last handed in or judged, whoever's it was."""
        self._stop: Finalize[None] | None = None
        self._lock = Lock()

    def judge(self, items: Sequence[Item | Judgement]) -> list[Judgement]:
        """One judgement an item, in order; `timeout` or `error` where the checker did not give one.

        Equal items are checked once, and one that is a judgement already stays as it is.
        Raises RuntimeError where no worker can be started.
        """
        judged = self._judge_distinct({item for item in items if isinstance(item, tuple)})
        return [judged[item] if isinstance(item, tuple) else item for item in items]

    def close(self) -> None:
        """Stop the workers; the next item starts new ones."""
        with self._lock:
            self._stop_pool()

    def _judge_distinct(self, items: set[Item]) -> dict[Item, Judgement]:
        """Judgements by item, with a new pool where the first one broke."""
        judged: dict[Item, Judgement] = {}
        for _ in range(POOL_TRIES):
            if missing := items - judged.keys():
                judged |= self._try_to_judge(missing)
        if missing := items - judged.keys():
            raise RuntimeError(
                f"checker workers ended before judging {len(missing)} items; expected them to start: "
                f"see their messages above, and keep the main module's work under `if __name__ == '__main__'`"
            )
        return judged

    def _try_to_judge(self, items: set[Item]) -> dict[Item, Judgement]:
        """Judgements by item, without those that were under way when the whole pool broke."""
        pool = self._running_pool()
        futures = {item: self._schedule(pool, item) for item in items}
        for future in futures.values():
            future.add_done_callback(self._note_move)
        self._note_move()
        waiting = set(futures.values())
        while waiting and monotonic() < self._moved + self.timeout_s + self.stall_s:
            waiting = wait(waiting, timeout=LOOK_S).not_done
        return {
            item: judgement
            for item, future in futures.items()
            if (judgement := LOST if future in waiting else read_future(future)) is not None
        }

    def _note_move(self, _: object = None) -> None:
        self._moved = monotonic()

    def _schedule(self, pool: ProcessPool, item: Item) -> "Future[Judgement]":
        """Hand an item to the pool; to a pool that broke meanwhile, in vain."""
        arguments = [self.check, math.ceil(self.timeout_s), *item]
        try:
            return pool.schedule(run_bounded, args=arguments, timeout=self.timeout_s)
        except RuntimeError as error:
            in_vain: Future[Judgement] = Future()
            in_vain.set_exception(BrokenProcessPool(str(error)))
            return in_vain

    def _running_pool(self) -> ProcessPool:
        """The pool, started or, where it broke, started anew."""
        with self._lock:
            if self._pool is None or not self._pool.active:
                self._stop_pool()
                self._pool = ProcessPool(
                    max_workers=self.num_workers,
                    initializer=prepare_worker,
                    initargs=[self.load, self.memory_bytes],
                    context=multiprocessing.get_context("spawn"),
                )
                # A process that multiprocessing started ends without atexit, and waits for its children for ever.
                self._stop = Finalize(None, stop, args=[self._pool], exitpriority=0)
            return self._pool

    def _stop_pool(self) -> None:
        if self._stop is not None:
            self._stop()
        self._pool = self._stop = None


def stop(pool: ProcessPool) -> None:
    """End the pool's workers, and wait for that."""
    pool.stop()
    pool.join()


def read_future(future: "Future[Judgement]") -> Judgement | None:
    """The judgement of a finished item; None where it is not the item that failed, but the whole pool."""
    try:
        return future.result()
    except BrokenProcessPool:
        return None
    except TimeoutError:
        return Judgement(solved=False, reason="timeout")
    except ProcessExpired as death:
        return explain_death(death.exitcode)


def explain_death(exit_status: int) -> Judgement:
    """The judgement of an item whose worker died of it."""
    if exit_status == -signal.SIGXCPU:
        return Judgement(solved=False, reason="timeout")
    cause = "out of memory" if exit_status == OUT_OF_MEMORY else f"the checker died with exit status {exit_status}"
    return Judgement(solved=False, reason="error", answer=cause)


# What follows runs in the workers.


def prepare_worker(load: Callable[[], None], memory_bytes: int) -> None:
    """Import what the checker needs, then give up what it does not."""
    die_with_parent()
    # A handler in Python, as pebble's, would wait for the end of the C call that hangs.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    load()
    limit = address_space() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.addaudithook(refuse_side_effects)


def run_bounded(check: Callable[..., Judgement], cpu_seconds: int, *item: Any) -> Judgement:
    """Check an item in bounded CPU time, which still counts when no parent is left to watch the clock."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft_limit = math.ceil(usage.ru_utime + usage.ru_stime) + cpu_seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft_limit, resource.RLIM_INFINITY))
    try:
        return check(*item)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)  # what filled the memory may still be there: the next item gets a fresh worker
    except BaseException as error:  # raised in the parent, SystemExit would end it, and many errors do not unpickle
        return Judgement(solved=False, reason="error", answer=f"{type(error).__name__}: {error}"[:MAX_ANSWER_CHARS])


def die_with_parent() -> None:
    """Have the kernel end this process when the parent's end of the pipe between them closes.

    PR_SET_PDEATHSIG would do so already when the thread that started the worker ends,
    and a thread of our own would wait for whatever holds the interpreter's lock.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(parent.sentinel, fcntl.F_GETFL)
    fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
    if os.getppid() != parent.pid:
        os._exit(1)


def address_space() -> int:
    """Bytes of address space in use."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


def refuse_side_effects(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: reading is allowed; writing, processes, connections and foreign code are not."""
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITE_FLAGS:
        raise PermissionError(f"a checker tried to write {arguments[0]}")
    if event.startswith(REFUSED_EVENTS) and event not in HARMLESS_EVENTS:
        raise PermissionError(f"a checker tried {event}")
