"""`prefect.yaml` on a server, a work pool and a worker of others, as docs/operations.md has it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import Wheel, without
from tests.flows.test_documented_commands import of
from tests.flows.test_serve import Served, free_port, wait

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PREFECT = Path(sys.executable).with_name("prefect")


def test_a_worker_runs_what_prefect_yaml_says(wheel: Wheel, tmp_path: Path) -> None:
    port = free_port()
    environment = without("PREFECT_API_KEY", "PREFECT_PROFILE") | {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "DO_NOT_TRACK": "1",
        "FLYWHEEL_HOME": str(wheel.home),
    }
    others: list[subprocess.Popen[bytes]] = []

    def start(words: list[str]) -> subprocess.Popen[bytes]:
        others.append(subprocess.Popen([PREFECT, *words], env=environment, cwd=ROOT, stdout=subprocess.DEVNULL))
        return others[-1]

    try:
        server = Served(wheel, start(["server", "start", f"--port={port}"]), port)
        wait(lambda: is_healthy(server), "the server")
        create, deploy, work = of("prefect")
        for words in (create, ["--no-prompt", *deploy]):
            subprocess.run([PREFECT, *words], env=environment, cwd=ROOT, check=True, capture_output=True)
        start(work)
        measured = server.finish(server.start("evaluate", checkpoint="initial", split="development"))
        assert measured["state"]["type"] == "COMPLETED", measured["state"]["message"]
        assert server.artifacts(measured)["report"].startswith("initial on development: 0.")
    finally:
        for process in reversed(others):
            process.terminate()
            process.wait(timeout=60)


def is_healthy(server: Served) -> bool:
    try:
        return server.ask("GET", "/health") is True
    except OSError:
        return False
