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
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Lock
from time import sleep
from typing import Any

from models.cores import num_cores
from models.reward.protocol import Judgement

MAX_CHARS = 20_000
"""Longer texts are not sent to a checker."""
MAX_ANSWER_CHARS = 200
MEMORY_BYTES = 1 << 30
TIMEOUT_S = 5.0
"""Of a core's time, which the kernel counts: what becomes of an answer does not go by how busy a machine is."""
WALL = 4
"""A checker that waits, rather than computes, is ended after so many times that."""
NUM_WORKERS = min(4, num_cores())
START_S = 120.0
"""How long a worker may take to load what its checker needs."""
START_TRIES = 2
OUT_OF_MEMORY = 77
"""Exit status of a worker that ran out of memory."""

REFUSED_EVENTS = ("os.", "socket.", "subprocess.", "ctypes.", "shutil.", "pty.", "signal.pthread_kill")
HARMLESS_EVENTS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk")
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

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
    ) -> None:
        self.check = check
        self.load = load
        self.timeout_s = timeout_s
        self.memory_bytes = memory_bytes
        self.num_workers = num_workers
        self._idle: SimpleQueue[Worker | None] = SimpleQueue()
        """Workers that wait for an item, and a None for each that is still to be started."""
        for _ in range(num_workers):
            self._idle.put(None)
        self._closing = Lock()

    def judge(self, items: Sequence[Item | Judgement]) -> list[Judgement]:
        """One judgement an item, in order; `timeout` or `error` where the checker did not give one.

        Equal items are checked once, and one that is a judgement already stays as it is.
        Raises RuntimeError where no worker can be started.
        """
        distinct = list(dict.fromkeys(item for item in items if isinstance(item, tuple)))
        with ThreadPoolExecutor(self.num_workers) as threads:
            judged = dict(zip(distinct, threads.map(self._judge_item, distinct), strict=True))
        return [judged[item] if isinstance(item, tuple) else item for item in items]

    def close(self) -> None:
        """Stop the workers, each after its item; the next item starts new ones."""
        with self._closing:
            workers = [self._idle.get() for _ in range(self.num_workers)]
            for worker in workers:
                if worker is not None:
                    worker.stop()
                self._idle.put(None)

    def _judge_item(self, item: Item) -> Judgement:
        worker = self._idle.get()
        try:
            if worker is None or not worker.is_alive():
                worker = self._start_worker()
            return worker.judge(item, self.timeout_s)
        finally:
            self._idle.put(worker)

    def _start_worker(self) -> "Worker":
        for _ in range(START_TRIES):
            worker = Worker(self.check, self.load, memory_bytes=self.memory_bytes, timeout_s=self.timeout_s)
            if worker.is_alive():
                return worker
        raise RuntimeError(
            "a checker's worker ended before it was ready; expected it to start: see its messages above, "
            "and keep the main module's work under `if __name__ == '__main__'`"
        )


class Worker:
    """A process that checks one item at a time, so that a death or a delay is laid to the item it comes from."""

    def __init__(
        self, check: Callable[..., Judgement], load: Callable[[], None], *, memory_bytes: int, timeout_s: float
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, its_end = context.Pipe()
        arguments = (its_end, check, load, memory_bytes, math.ceil(timeout_s))
        # Daemonic, or a program that ends would wait for it for ever.
        self._process = context.Process(target=work, args=arguments, daemon=True)
        self._process.start()
        its_end.close()
        try:
            is_ready = self._pipe.poll(START_S) and self._pipe.recv()
        except (EOFError, OSError):
            is_ready = False
        if not is_ready:
            self.stop()

    def is_alive(self) -> bool:
        """Whether it can take an item."""
        return not self._pipe.closed and self._process.is_alive()

    def judge(self, item: Item, timeout_s: float) -> Judgement:
        """The judgement of an item; a worker that gave none is alive no more."""
        try:
            self._pipe.send(item)
            if self._pipe.poll(WALL * timeout_s):
                return self._pipe.recv()  # type: ignore[no-any-return]
        except (EOFError, OSError):
            return explain_death(self.stop())
        self.stop()
        return Judgement(solved=False, reason="timeout")

    def stop(self) -> int:
        """End the process, wait for that, and return its exit status."""
        self._pipe.close()
        self._process.kill()
        self._process.join()
        # Where another thread starts a process, multiprocessing may have reaped this one there, a moment ago.
        while (status := self._process.exitcode) is None:
            sleep(0.001)
        return status


def explain_death(exit_status: int) -> Judgement:
    """The judgement of an item whose worker died of it."""
    if exit_status == -signal.SIGXCPU:
        return Judgement(solved=False, reason="timeout")
    cause = "out of memory" if exit_status == OUT_OF_MEMORY else f"the checker died with exit status {exit_status}"
    return Judgement(solved=False, reason="error", answer=cause)


# What follows runs in the workers.


def work(
    pipe: Connection, check: Callable[..., Judgement], load: Callable[[], None], memory_bytes: int, cpu_seconds: int
) -> None:
    """Say when ready, then judge what comes, an item at a time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    load()
    give_up_rights(memory_bytes)
    pipe.send(True)
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        pipe.send(run_bounded(check, cpu_seconds, item))


def give_up_rights(memory_bytes: int) -> None:
    """Bound this process's memory, and have it write, start and connect nothing from now on."""
    bound(resource.RLIMIT_AS, address_space() + memory_bytes, is_for_good=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.addaudithook(refuse_side_effects)


def bound(what: int, limit: int, *, is_for_good: bool) -> None:
    """Limit what this process takes, within what whoever started us allows."""
    _, most = resource.getrlimit(what)
    limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(what, (limit, limit if is_for_good else most))


def run_bounded(check: Callable[..., Judgement], cpu_seconds: int, item: Item) -> Judgement:
    """Check an item in bounded CPU time, which still counts when no parent is left to watch the clock."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    bound(resource.RLIMIT_CPU, math.ceil(usage.ru_utime + usage.ru_stime) + cpu_seconds + 1, is_for_good=False)
    try:
        return check(*item)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)  # what filled the memory may still be there: the next item gets a fresh worker
    except BaseException as error:  # SystemExit would end the worker, and many errors do not unpickle
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
