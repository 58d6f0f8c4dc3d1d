"""GPUs: one process a GPU, by a lock in the home; shown, and limited across homes and hosts, by a limit in Prefect.

Stages that share a GPU therefore take turns, each process letting go of its engines before it lets go of the GPU.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from time import sleep

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from models.policy.pool import release_engines
from storage.home import Home, HomeBusyError
from storage.locks import signature
from tasks.child import OWN_SERVER_VARIABLE
from tasks.progress import check_stop
from tasks.stage import warn

LOOK_S = 0.2
PATIENCE_S = 5
"""For a slot of Prefect's, before the wish to stop is looked at."""

_held: set[str] = set()
"""GPUs of this process."""


@contextmanager
def held(home: Home, gpus: Sequence[str]) -> Iterator[None]:
    """Be the one process that uses these GPUs, as `cuda:0`, after whoever uses them; the CPU is everybody's.

    Within another `held` of this process its GPUs are there already. Raises StoppedError where the wait should end.
    """
    missing = sorted(set(gpus) - _held)  # all take them in this order, so that none waits for another's other
    with ExitStack() as stack:
        for gpu in missing:
            _claim(stack, home, gpu)
            _held.add(gpu)
            stack.callback(_held.discard, gpu)
            _occupy(stack, f"{socket.gethostname()} {gpu}")
        if missing:
            stack.callback(release_engines)  # first: what they hold of the GPU goes with it
        yield


def _claim(stack: ExitStack, home: Home, gpu: str) -> None:
    """Have the lock of the home, on this host."""
    name, told = f"{socket.gethostname()}-{gpu.replace(':', '')}.lock", ""
    while True:
        try:
            sign = stack.enter_context(home.claim(name))
        except HomeBusyError:
            holder = home.claimed(name)
            if holder and holder != told:
                told = holder
                warn(f"waits for {gpu}, which {holder} uses")
            check_stop()
            sleep(LOOK_S)
        else:
            sign(signature())
            return


def _occupy(stack: ExitStack, name: str) -> None:
    """Have the one slot of Prefect's limit of this name, where there is a Prefect server that others may use.

    One of this run's own takes no slot back from a process that was killed, and nobody else could ask it for one.
    """
    if "PREFECT_API_URL" not in os.environ or OWN_SERVER_VARIABLE in os.environ:
        return
    _create(name)
    is_told = False
    while True:
        with suppress(TimeoutError):
            stack.enter_context(concurrency(name, strict=True, timeout_seconds=PATIENCE_S))
            return
        if not is_told:
            is_told = True
            warn(f"waits for a slot of Prefect's concurrency limit {name!r}; its UI shows who has it")
        check_stop()


def _create(name: str) -> None:
    """See to it that there is such a limit; one that people changed is left as they want it."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            with suppress(ObjectAlreadyExists):
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
