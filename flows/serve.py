"""`flywheel serve`: a Prefect server with its UI, the deployments, and whoever runs them. Imports prefect.

What is scheduled, and what people changed of it in the UI, is the server's; it stays as it was from one start to
the next, unless flywheel.toml says something else than the last time.
"""

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
    FlowRun,
    StateType,
)
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound, TerminationSignal
from prefect.runner import Runner
from prefect.states import Cancelled, Crashed

from flows.deployed import DEPLOYED
from flows.forms import TurnForm
from flows.schedule import ServeSettings
from flows.server import Server, ServerError
from storage.files import OWNER_ONLY_FILE, replace
from storage.home import Home
from storage.records import now

SLUG = "flywheel-toml"
"""Names the schedule that the configuration says, among those that people add in the UI."""
OF_SCHEDULE = ("cron", "timezone", "interval_s", "rounds", "paused")
"""Settings that say when the wheel turns."""
STRATEGIES = {
    "flywheel": ConcurrencyLimitStrategy.CANCEL_NEW,
    "retrain": ConcurrencyLimitStrategy.ENQUEUE,
    "evaluate": ConcurrencyLimitStrategy.ENQUEUE,
    "rollback": ConcurrencyLimitStrategy.ENQUEUE,
}
"""What becomes of a run that is due while one of the same deployment is at work: left out, or later."""
GONE = {StateType.RUNNING, StateType.PENDING, StateType.CANCELLING}
"""States that only a process of ours can leave."""
LOOK_S = 1.0
"""From one look whether the server is there to the next."""
MAX_RUNS = 16
"""Flow runs at a time; all but one of them wait for their place."""


def serve(home: Home, settings: ServeSettings, server: Server) -> None:
    """Register the deployments and run what is due, until Ctrl-C or SIGTERM. What flow runs print goes to a log.

    Raises ServerError where the server ends before.
    """
    stopped = (TerminationSignal, SystemExit)  # by SIGTERM, before the runner is at work and after
    with printing_to(home.logs / "runs.log"), suppress(*stopped):
        asyncio.run(_serve(home, settings, server))


@contextmanager
def printing_to(log: Path) -> Iterator[None]:
    """Let what this process and those it starts print go to the end of a file."""
    before = [os.dup(descriptor) for descriptor in (1, 2)]
    to = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, OWNER_ONLY_FILE)
    try:
        for descriptor in (1, 2):
            os.dup2(to, descriptor)
        yield
    finally:
        for descriptor, original in zip((1, 2), before, strict=True):
            os.dup2(original, descriptor)
            os.close(original)
        os.close(to)


async def _serve(home: Home, settings: ServeSettings, server: Server) -> None:
    runner = Runner(name="flywheel", pause_on_shutdown=False, limit=MAX_RUNS)
    if settings.url:
        await require_ours(home, settings)
    ids = {name: await runner.aadd_deployment(await deployment(name)) for name in DEPLOYED}
    async with get_client() as client:
        await settle_runs(client, list(ids.values()))
        await set_schedule(client, home, ids["flywheel"], settings)
    serving = asyncio.current_task()
    assert serving
    watching = asyncio.create_task(_cancel_when_ended(server, serving))
    try:
        await runner.start()
    except asyncio.CancelledError:
        if not server.ended:  # but by Ctrl-C
            raise
        raise ServerError(
            f"prefect's server has ended; {server.log} may say why. The same command serves again; what was under way "
            "goes on with the next run."
        ) from None
    finally:
        watching.cancel()


async def _cancel_when_ended(server: Server, serving: "asyncio.Task[None]") -> None:
    while not server.ended:
        await asyncio.sleep(LOOK_S)
    serving.cancel()


async def require_ours(home: Home, settings: ServeSettings) -> None:
    """Raises ServerError where a server that others use too has the deployment flywheel of another home, or a pool."""
    async with get_client() as client:
        try:
            found = await client.read_deployment_by_name("flywheel/flywheel")
        except ObjectNotFound:
            return
    remembered = home.prefect / "serve.json"
    known = json.loads(remembered.read_bytes())["deployment"] if remembered.exists() else ""
    if found.work_pool_name or known != str(found.id):
        raise ServerError(
            f"the server at {settings.url} has a deployment flywheel already, which is not this home's: delete it "
            "there, serve the other home elsewhere, or leave out serve.url."
        )


async def deployment(name: str) -> RunnerDeployment:
    """A deployment as it is registered, without a schedule."""
    flow = DEPLOYED[name]
    limit = ConcurrencyLimitConfig(limit=1, collision_strategy=STRATEGIES[name])
    registered: RunnerDeployment = await flow.ato_deployment(name, tags=["flywheel"], concurrency_limit=limit)
    return registered


async def set_schedule(client: PrefectClient, home: Home, deployment_id: UUID, settings: ServeSettings) -> None:
    """Make the schedule what the configuration says, if that says something else than the last time."""
    said = {"deployment": str(deployment_id), **{key: getattr(settings, key) for key in OF_SCHEDULE}}
    remembered = home.prefect / "serve.json"
    if remembered.exists() and json.loads(remembered.read_bytes()) == said:
        return
    schedule = make_schedule(settings)
    known = [one for one in await client.read_deployment_schedules(deployment_id) if one.slug == SLUG]
    is_there = schedule is not None and [one.schedule for one in known] == [schedule.schedule]
    if remembered.exists() or not is_there:  # else it was made, and this process ended before it was remembered
        for one in known:
            await client.delete_deployment_schedule(deployment_id, one.id)
        if schedule:
            await client.create_deployment_schedules(deployment_id, [schedule])
    replace(remembered, json.dumps(said).encode())


def make_schedule(settings: ServeSettings) -> DeploymentScheduleCreate | None:
    """The configured schedule; None where nothing is."""
    if not (settings.cron or settings.interval_s):
        return None
    return DeploymentScheduleCreate(
        schedule=CronSchedule(cron=settings.cron, timezone=settings.timezone)
        if settings.cron
        else IntervalSchedule(interval=timedelta(seconds=settings.interval_s)),
        active=not settings.paused,
        parameters={"choices": TurnForm(rounds=settings.rounds).model_dump()},
        slug=SLUG,
    )


async def settle_runs(client: PrefectClient, ids: Sequence[UUID]) -> None:
    """End runs whose process was gone with the last `flywheel serve`, and of those that are late keep the newest."""
    ours = DeploymentFilter(id=DeploymentFilterId(any_=list(ids)))
    for run in await runs_in(client, ours, GONE):
        await client.set_flow_run_state(run.id, Crashed(message="Its process went with `flywheel serve`."), force=True)
    scheduled = await runs_in(client, ours, {StateType.SCHEDULED})
    kept: set[UUID | None] = set()
    for run in reversed(scheduled):
        if is_late(run) and run.deployment_id in kept:
            await client.set_flow_run_state(run.id, Cancelled(message="Late, and a newer one was too."), force=True)
        elif is_late(run):
            kept.add(run.deployment_id)


async def runs_in(client: PrefectClient, deployments: DeploymentFilter, states: set[StateType]) -> list[FlowRun]:
    """Runs of deployments in some states, by when they were to start."""
    wanted = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))))
    found = await client.read_flow_runs(
        deployment_filter=deployments, flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_ASC
    )
    return list(found)


def is_late(run: FlowRun) -> bool:
    """Whether the clock was to start it, and did not."""
    return bool(run.auto_scheduled and run.expected_start_time and run.expected_start_time < now())
