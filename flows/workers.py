"""Search shards by the workers of a Prefect work pool, who see the same home: an order each, its outcome in the lake.

Whoever turns the wheel holds the home's lock; a worker publishes no more than its shard's parts, once and for all
however often it is told to. While it searches it touches a file in the home, so that its death is noticed.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any
from uuid import UUID

import httpx
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelling, Crashed

from flows import waiting
from flows.config import Config, from_json
from flows.interrupt import interruptible
from models.orphan import end_with
from models.search.settings import SearchSettings
from storage.history import find_run
from storage.home import Home, default_home
from storage.warehouse import Warehouse
from tasks.progress import Progress, check_stop, report
from tasks.search import Shard, is_searched, part_of, recall, search
from tasks.turn import Turn

DEPLOYMENT = "search/search"
LOOK_S = 1.0
BEAT_S = 5.0
START_S = 1200.0
"""In which one that took an order is to be at work: a container may have to be fetched."""


class WorkersError(RuntimeError):
    """Shards that no worker brought to an end."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a worker is to search: `Order(line="countdown-…", run_id="r1…", round=3, …)`."""

    line: str
    run_id: str
    round: int
    seed: int
    checkpoint_id: str
    index: int
    first: int
    last: int
    settings: dict[str, Any]
    """Of the round's search."""


@flow(name="search", flow_run_name="{order.run_id} round {order.round} shard {order.index}")
def search_shard(order: Order) -> str:
    """Search a shard of a run's round, at the home of this machine."""
    end_with(os.getppid())
    home = Home.open(default_home())
    with interruptible(), beating(beat_of(home, flow_run.get_id())):
        turn = Turn(root=home.root, line=order.line, run_id=order.run_id, round=order.round, seed=order.seed)
        config = from_json(find_run(Warehouse(home), order.run_id).config)
        shard = Shard(index=order.index, first=order.first, last=order.last)
        found = search(turn, shard, order.checkpoint_id, config.policy, SearchSettings(**order.settings))
        return f"{found.solved:,} of {found.done:,} problems solved"


def beat_of(home: Home, run_id: object) -> Path:
    """The file that whoever works on an order touches."""
    return home.tmp / f"order-{run_id}"


@contextmanager
def beating(path: Path) -> Iterator[None]:
    """Touch a file again and again meanwhile."""
    is_done = Event()

    def beat() -> None:
        while True:
            with suppress(OSError):  # a full disk is told by whoever publishes
                path.touch()
            if is_done.wait(BEAT_S):
                return

    Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        is_done.set()
        path.unlink(missing_ok=True)


@dataclass(kw_only=True)
class Given:
    """An order that was given, and what was last heard of it."""

    run_id: UUID
    heard: tuple[object, ...] = ()
    heard_at: float = field(default_factory=monotonic)

    def silence(self, *news: object) -> float:
        """Seconds since something was new."""
        if news != self.heard:
            self.heard, self.heard_at = news, monotonic()
        return monotonic() - self.heard_at


def search_by_workers(turn: Turn, checkpoint_id: str, shards: Sequence[Shard], config: Config) -> list[Progress]:
    """Have every shard searched that is not; gives what each came to.

    Raises WorkersError where one fails again and again, ValueError where there is no such deployment, and StoppedError
    where the work should stop. Whatever ends it is told to the workers.
    """
    left = {shard: config.run.retries for shard in shards if not is_searched(turn, shard)}
    for shard in shards:
        if shard not in left:
            report(recall(turn, shard))
    at_work: dict[Shard, Given] = {}
    with get_client(sync_client=True) as client:
        try:
            for shard in left:
                at_work[shard] = give(turn, checkpoint_id, shard, config)
            while at_work:
                check_stop()
                sleep(LOOK_S)
                for shard, given in list(at_work.items()):
                    state = ended(client, turn, given)
                    if state is None:
                        continue
                    del at_work[shard]
                    if is_searched(turn, shard):
                        report(recall(turn, shard))
                    elif left[shard]:
                        left[shard] -= 1
                        at_work[shard] = give(turn, checkpoint_id, shard, config)
                    else:
                        raise WorkersError(
                            f"no worker searched shard {shard.index + 1}: {state.message or state.name}; its flow run "
                            "in Prefect's UI says more. A worker's FLYWHEEL_HOME must be this home."
                        )
        except BaseException:
            for given in at_work.values():
                with suppress(Exception):
                    client.set_flow_run_state(given.run_id, Cancelling(message="Whoever turns the wheel was stopped."))
            raise
    return [recall(turn, shard) for shard in shards]


def give(turn: Turn, checkpoint_id: str, shard: Shard, config: Config) -> Given:
    """Give an order to whichever worker takes it, or find it given: a wheel that was killed left its orders."""
    order = Order(
        line=turn.line,
        run_id=turn.run_id,
        round=turn.round,
        seed=turn.seed,
        checkpoint_id=checkpoint_id,
        index=shard.index,
        first=shard.first,
        last=shard.last,
        settings=asdict(config.search),
    )
    for attempt in count():
        name = f"{part_of(turn, shard)}-{attempt}"
        try:
            ordered: Any = run_deployment(
                DEPLOYMENT, parameters={"order": asdict(order)}, timeout=0, idempotency_key=name
            )
        except ObjectNotFound as error:
            raise ValueError(
                f"the server at {config.serve.url} has no deployment {DEPLOYMENT}, which run.runner=workers asks for: "
                "`prefect deploy --all` there (docs/scaling.md), or set run.runner to threads"
            ) from error
        if not (ordered.state and (ordered.state.is_final() or ordered.state.is_cancelling())):
            break
    return Given(run_id=ordered.id)


def ended(client: SyncPrefectClient, turn: Turn, given: Given) -> State[Any] | None:
    """How an order ended; None while it has not, or the server is not there. Ends one of a worker that is silent."""
    try:
        state = client.read_flow_run(given.run_id).state
        if state is None or state.is_final():
            return state
        last_beat = 0.0
        with suppress(OSError):  # none yet, or no longer
            last_beat = beat_of(turn.home, given.run_id).stat().st_mtime
        silence = given.silence(state.type, last_beat)
        if not state.is_scheduled() and silence > (waiting.SILENCE_S if state.is_running() else START_S):
            lost: State[Any] = Crashed(message=f"Nothing was heard of its worker for {silence:.0f} s.")
            client.set_flow_run_state(given.run_id, lost, force=True)
            return lost
    except httpx.TransportError:
        given.silence("the server is not there")
    return None
