"""`prefect.yaml` on a server, a work pool and workers of others, as docs/operations.md and docs/scaling.md have it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.flows.conftest import Wheel, without
from tests.flows.test_documented_commands import of
from tests.flows.test_serve import Served, free_port, wait

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PREFECT = Path(sys.executable).with_name("prefect")


@dataclass
class Pool:
    """A server with the deployments of prefect.yaml, and whoever works for it."""

    server: Served
    environment: dict[str, str]
    others: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self, words: list[str], said: Path | None = None) -> "subprocess.Popen[bytes]":
        """A command of prefect's in the background, what it says in a file."""
        with open(said or os.devnull, "wb") as out:
            command = [str(PREFECT), *words]
            self.others.append(
                subprocess.Popen(
                    command, env=self.environment, cwd=ROOT, stdout=out, stderr=out, start_new_session=True
                )
            )
        return self.others[-1]

    def do(self, words: list[str]) -> None:
        command = [str(PREFECT), *words]
        subprocess.run(command, env=self.environment, cwd=ROOT, check=True, capture_output=True)


@pytest.fixture
def pool(wheel: Wheel, tmp_path: Path) -> Iterator[Pool]:
    port = free_port()
    environment = without("PREFECT_API_KEY", "PREFECT_PROFILE") | {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "DO_NOT_TRACK": "1",
        "FLYWHEEL_HOME": str(wheel.home),
    }
    pool = Pool(Served(wheel, None, port), environment)  # type: ignore[arg-type]  # a server of others
    pool.start(["server", "start", f"--port={port}"])
    try:
        wait(lambda: is_healthy(pool.server), "the server")
        create, deploy, _ = of("prefect")
        pool.do(create)
        pool.do(deploy)
        yield pool
    finally:
        for process in reversed(pool.others):
            process.terminate()
            process.wait(timeout=60)


def test_a_worker_runs_what_prefect_yaml_says(pool: Pool) -> None:
    *_, work = of("prefect")
    pool.start(work)
    measured = pool.server.finish(pool.server.start("evaluate", checkpoint="initial", split="development"))
    assert measured["state"]["type"] == "COMPLETED", measured["state"]["message"]
    assert pool.server.artifacts(measured)["report"].startswith("initial on development: 0.")


def test_two_workers_search_a_rounds_shards_for_whoever_turns_the_wheel(
    pool: Pool, wheel: Wheel, tmp_path: Path
) -> None:
    *_, work = of("prefect")
    said = [tmp_path / "one", tmp_path / "other"]
    for file in said:
        pool.start([*work, "--limit", "1"], file)
    before = wheel.count("trajectories")
    url = pool.environment["PREFECT_API_URL"]
    sets = ["run.runner=workers", f"serve.url={url}", "run.shard_problems=6"]
    wheel("run", "--rounds", "1", "--new-run", *(f"--set={text}" for text in sets))
    shards = wheel.ask("SELECT shard, count(DISTINCT problem_id) AS n FROM trajectories WHERE round = 3 GROUP BY ALL")
    assert sorted((row["shard"], row["n"]) for row in shards) == [(0, 6), (1, 6), (2, 6), (3, 6)]
    assert wheel.count("trajectories") == before + 24 * 8
    taken = [len(set(re.findall(r"submitting flow run '([0-9a-f-]{36})'", file.read_text()))) for file in said]
    assert sum(taken) == 4 and min(taken) >= 1, taken


def test_a_shard_that_a_worker_died_of_is_given_to_another(pool: Pool, wheel: Wheel, tmp_path: Path) -> None:
    *_, work = of("prefect")
    pool.start([*work, "--limit", "1"])
    url = pool.environment["PREFECT_API_URL"]
    sets = ["run.runner=workers", f"serve.url={url}", "search.samples=64", "run.shard_problems=24"]
    run = wheel.start("run", "--rounds", "1", "--new-run", *(f"--set={text}" for text in sets))
    wait(lambda: searching(pool), "a worker's search").kill()
    out, err = run.communicate(timeout=240)
    assert run.returncode == 0, f"{out}\n{err}"
    assert wheel.ask("SELECT count(*) AS n FROM trajectories WHERE round = 3") == [{"n": 24 * 64}]


def test_the_shard_of_a_worker_that_falls_silent_is_given_to_another_and_published_once(
    pool: Pool, wheel: Wheel, tmp_path: Path
) -> None:
    """As of a machine that is gone for a while: neither the worker nor Prefect says anything."""
    *_, work = of("prefect")
    for _ in range(2):
        pool.start([*work, "--limit", "1"])
    wheel.command = impatient(tmp_path / "impatient")
    url = pool.environment["PREFECT_API_URL"]
    sets = ["run.runner=workers", f"serve.url={url}", "search.samples=64", "run.shard_problems=24"]
    run = wheel.start("run", "--rounds", "1", "--new-run", *(f"--set={text}" for text in sets))
    at_work = wait(lambda: searching(pool), "a worker's search")
    gone = [at_work, at_work.parent()]
    for process in reversed(gone):
        process.suspend()
    out, err = run.communicate(timeout=240)
    assert run.returncode == 0, f"{out}\n{err}"
    assert all(process.status() == psutil.STATUS_STOPPED for process in gone)
    published = wheel.digests()
    for process in gone:
        process.resume()
    at_work.wait(timeout=60)
    assert wheel.digests() == published
    assert wheel.count("trajectories WHERE round = 3") == 24 * 64


def test_without_the_deployment_it_is_told_how_to_make_it(wheel: Wheel, pool: Pool) -> None:
    subprocess.run(
        [str(PREFECT), "--no-prompt", "deployment", "delete", "search/search"],
        env=pool.environment,
        check=True,
        capture_output=True,
    )
    url = pool.environment["PREFECT_API_URL"]
    said = wheel("run", "--new-run", "--set=run.runner=workers", f"--set=serve.url={url}", status=1)
    assert f"the server at {url} has no deployment search/search" in said.stderr


def searching(pool: Pool) -> psutil.Process | None:
    """The process in which a worker runs a search that has begun."""
    body = {"flows": {"name": {"any_": ["search"]}}, "flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    began = pool.server.ask("POST", "/flow_runs/filter", body)
    _, *workers = pool.others
    at_work = [child for worker in workers for child in psutil.Process(worker.pid).children()] if began else []
    return at_work[0] if at_work else None


def impatient(path: Path) -> Path:
    """The command, which takes a worker for dead after 20 seconds."""
    path.write_text(f"#!{sys.executable}\nfrom flows import cli, waiting\n\nwaiting.SILENCE_S = 20.0\ncli.main()\n")
    path.chmod(0o700)
    return path


def is_healthy(server: Served) -> bool:
    try:
        return server.ask("GET", "/health") is True
    except OSError:
        return False
