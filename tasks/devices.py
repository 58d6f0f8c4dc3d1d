"""GPUs: one process a GPU, by a lock in the home; shown, and limited across homes and hosts, by a limit in Prefect.

Stages that share a GPU therefore take turns, each process letting go of its engines before it lets go of the GPU.
"""

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from threading import Lock
from time import sleep

from models.policy.load import physical
from models.policy.pool import release_engines
from storage.home import Home, HomeBusyError
from storage.locks import signature
from tasks.child import OWN_SERVER_VARIABLE, is_of_pool
from tasks.progress import check_stop

LOOK_S = 0.2
PATIENCE_S = 5
"""For a slot of Prefect's, before the wish to stop is looked at."""

_users: Counter[str] = Counter()
"""GPUs of this process, with how many hold each."""
_holds: dict[str, ExitStack] = {}
_lock = Lock()


@contextmanager
def held(home: Home, gpus: Sequence[str], say: Callable[[str], None]) -> Iterator[None]:
    """Be the one process that uses these GPUs, as `cuda:0`, after whoever uses them, who is said.

    What another thread of this process holds is there already, and what the parent of a pool's process holds. The CPU
    is everybody's. Raises StoppedError where the wait should end.
    """
    if is_of_pool():
        yield
        return
    with ExitStack() as stack:
        for gpu in sorted(map(physical, gpus)):  # all take them in this order, so that none waits for another's other
            with _lock:
                if gpu not in _holds:
                    _holds[gpu] = _hold(home, gpu, say)
                _users[gpu] += 1
            stack.callback(_let_go, gpu)
        yield


def _let_go(gpu: str) -> None:
    with _lock:
        _users[gpu] -= 1
        if not _users[gpu]:
            release_engines()
            _holds.pop(gpu).close()


def _hold(home: Home, gpu: str, say: Callable[[str], None]) -> ExitStack:
    """The lock, and then the slot."""
    with ExitStack() as stack:
        _claim(stack, home, gpu, say)
        if "PREFECT_API_URL" in os.environ and OWN_SERVER_VARIABLE not in os.environ:
            # A run's own server takes no slot back from a process that was killed, and nobody else could ask for one.
            stack.enter_context(_slot(f"{socket.gethostname()} {gpu}", say))
        return stack.pop_all()


def _claim(stack: ExitStack, home: Home, gpu: str, say: Callable[[str], None]) -> None:
    """Have the lock of the home, on this host."""
    name, told = f"{socket.gethostname()}-{gpu.replace(':', '')}.lock", ""
    while True:
        try:
            sign = stack.enter_context(home.claim(name))
        except HomeBusyError:
            holder = home.claimed(name)
            if holder and holder != told:
                told = holder
                say(f"waits for {gpu}, which {holder} uses")
            check_stop()
            sleep(LOOK_S)
        else:
            sign(signature())
            return


@contextmanager
def _slot(name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Have the one slot of Prefect's limit of this name.

    A server that is away is waited for, and takes nothing from who holds a slot: the home's lock is held all the same.
    """
    from prefect.concurrency.sync import concurrency  # slow to import, and of no use without a server

    told = ""
    while True:
        slot = concurrency(name, strict=True, timeout_seconds=PATIENCE_S, raise_on_lease_renewal_failure=False)
        try:
            _create(name)
            slot.__enter__()
            break
        except TimeoutError:
            news = f"waits for a slot of Prefect's concurrency limit {name!r}; its UI shows who has it"
        except Exception as error:  # of Prefect, of HTTP, of the network below it
            news = f"waits for Prefect's server, which gives no slot of its limit {name!r}: {error}"
            sleep(LOOK_S)
        if news != told:
            told = news
            say(news)
        check_stop()
    try:
        yield
    finally:
        try:
            slot.__exit__(None, None, None)
        except Exception as error:
            say(f"Prefect's slot of {name!r} comes back by itself in some minutes: {error}")


def _create(name: str) -> None:
    """See to it that there is such a limit; one that people changed is left as they want it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            try:
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
            except ObjectAlreadyExists:
                return
