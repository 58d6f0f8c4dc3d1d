"""Search shards by the workers of a Prefect work pool, who see the same home: an order each, its outcome in the lake.

Whoever turns the wheel holds the home's lock; a worker publishes no more than its shard's parts, once and for all
however often it is told to.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import sleep
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling

from flows.config import Config, from_json
from flows.interrupt import interruptible
from models.orphan import end_with
from models.search.settings import SearchSettings
from storage.history import find_run
from storage.home import Home, default_home
from storage.warehouse import Warehouse
from tasks.progress import Progress, StoppedError, check_stop, report
from tasks.search import Shard, is_searched, recall, search
from tasks.turn import Turn

DEPLOYMENT = "search/search"
LOOK_S = 1.0


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
    with interruptible():
        home = Home.open(default_home())
        turn = Turn(root=home.root, line=order.line, run_id=order.run_id, round=order.round, seed=order.seed)
        config = from_json(find_run(Warehouse(home), order.run_id).config)
        shard = Shard(index=order.index, first=order.first, last=order.last)
        found = search(turn, shard, order.checkpoint_id, config.policy, SearchSettings(**order.settings))
        return f"{found.solved:,} of {found.done:,} problems solved"


def search_by_workers(turn: Turn, checkpoint_id: str, shards: Sequence[Shard], config: Config) -> list[Progress]:
    """Have every shard searched that is not; gives what each came to.

    Raises WorkersError where one fails again and again, ValueError where there is no such deployment, and StoppedError
    where the work should stop, which the workers are told.
    """
    left = {shard: config.run.retries for shard in shards if not is_searched(turn, shard)}
    for shard in shards:
        if shard not in left:
            report(recall(turn, shard))
    with get_client(sync_client=True) as client:
        at_work = {shard: submit(turn, checkpoint_id, shard, config) for shard in left}
        try:
            while at_work:
                check_stop()
                sleep(LOOK_S)
                for shard, state in [(shard, ended(client, run_id)) for shard, run_id in at_work.items()]:
                    if state is None:
                        continue
                    del at_work[shard]
                    if is_searched(turn, shard):
                        report(recall(turn, shard))
                    elif left[shard]:
                        left[shard] -= 1
                        at_work[shard] = submit(turn, checkpoint_id, shard, config)
                    else:
                        raise WorkersError(
                            f"no worker searched shard {shard.index + 1}: {state.message or state.name}; its flow run "
                            "in Prefect's UI says more. A worker's FLYWHEEL_HOME must be this home."
                        )
        except (StoppedError, WorkersError):
            for run_id in at_work.values():
                client.set_flow_run_state(run_id, Cancelling(message="Whoever turns the wheel was stopped."))
            raise
    return [recall(turn, shard) for shard in shards]


def submit(turn: Turn, checkpoint_id: str, shard: Shard, config: Config) -> UUID:
    """Give an order to whichever worker takes it; the id of its flow run."""
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
    try:
        ordered: Any = run_deployment(DEPLOYMENT, parameters={"order": asdict(order)}, timeout=0)
    except ObjectNotFound as error:
        raise ValueError(
            f"the server at {config.serve.url} has no deployment {DEPLOYMENT}, which run.runner=workers asks for: "
            "`prefect deploy --all` there (docs/scaling.md), or set run.runner to threads"
        ) from error
    run_id: UUID = ordered.id
    return run_id


def ended(client: SyncPrefectClient, run_id: UUID) -> State[Any] | None:
    """How a flow run ended; None while it has not."""
    state = client.read_flow_run(run_id).state
    return state if state and state.is_final() else None
