"""docker-compose.yml: what it says, and its services as processes of this machine, by the same commands."""

import os
import pwd
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.config import load_config
from tests.conftest import postgres_commands
from tests.flows.conftest import Wheel, without
from tests.flows.test_serve import Served, free_port, is_ready, wait

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
BOTH = ("--profile", "cpu", "--profile", "gpu")
PASSWORD = secrets.token_hex(8)

pytestmark = pytest.mark.needs("docker-compose")


def compose(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    with tempfile.NamedTemporaryFile() as nothing:  # in the place of a .env that may be there
        command = ["docker-compose", "--env-file", nothing.name, "-f", str(FILE), *arguments]
        told = without("POSTGRES_PASSWORD") | environment
        return subprocess.run(command, env=told, capture_output=True, text=True, cwd=ROOT)


def services() -> dict[str, dict[str, Any]]:
    """Each service as it is in the end."""
    done = compose(*BOTH, "config", POSTGRES_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = yaml.safe_load(done.stdout)["services"]
    return found


def test_it_is_valid_and_a_profile_chooses_who_turns_the_wheel() -> None:
    chosen = {name: service.get("profiles") for name, service in services().items()}
    assert chosen == {"postgres": None, "prefect": None, "flywheel": ["cpu"], "flywheel-gpu": ["gpu"], "vllm": ["gpu"]}


def test_it_holds_no_secret_and_asks_for_one() -> None:
    done = compose("config")
    assert done.returncode and "put POSTGRES_PASSWORD=... into the file .env" in done.stderr
    given = re.findall(r"(?:PASSWORD|KEY)\w*: *(\S+)", FILE.read_text())
    assert given and all(value.startswith("${") for value in given)


def test_the_ui_alone_is_published_to_this_machine_alone_and_all_tell_whether_they_are_well() -> None:
    for name, service in services().items():
        assert service["healthcheck"]["test"], name
        assert "inside" in service["networks"], name
        assert [str(port) for port in service.get("ports", [])] == (
            ["127.0.0.1:4200:4200/tcp"] if name == "prefect" else []
        )
    assert set(services()["postgres"]["networks"]) == {"inside"}


def test_the_flywheel_beside_vllm_is_configured_as_the_models_take_it() -> None:
    environment = services()["flywheel-gpu"]["environment"]
    config = load_config(environ={key: str(value) for key, value in environment.items()})
    assert config.policy.is_joined and config.serve.url == "http://prefect:4200/api"
    assert config.problems.kind == "hub" and config.problems.prompt.endswith("within \\boxed{{}}.")


@contextmanager
def running(command: Sequence[str | Path], **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def postgres(folder: Path, port: int, environment: dict[str, str]) -> Iterator[None]:
    """The database as its image sets it up: a user of a password, who alone may come in."""
    initdb, server, is_ready = postgres_commands()
    owner: dict[str, Any] = {}
    if os.getuid() == 0:  # it refuses to run as root
        account = pwd.getpwnam("postgres")
        owner = {"user": account.pw_uid, "group": account.pw_gid}
        os.chown(folder, account.pw_uid, account.pw_gid)
    data, key = folder / "data", folder / "key"
    key.write_text(environment["POSTGRES_PASSWORD"])
    key.chmod(0o644)
    user = environment["POSTGRES_USER"]
    subprocess.run(
        [initdb, "-D", data, "-U", user, "--auth=scram-sha-256", f"--pwfile={key}"],
        check=True,
        capture_output=True,
        cwd="/",
        **owner,
    )
    command = [server, "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", ""]
    with running(command, cwd="/", stderr=subprocess.DEVNULL, **owner):
        wait(
            lambda: not subprocess.run([is_ready, "-h", "127.0.0.1", "-p", str(port)], capture_output=True).returncode,
            "postgres",
        )
        with_key = os.environ | {"PGPASSWORD": environment["POSTGRES_PASSWORD"]}
        create = f"CREATE DATABASE {environment['POSTGRES_DB']}"
        subprocess.run(
            ["psql", "-h", "127.0.0.1", "-p", str(port), "-U", user, "-d", "postgres", "-c", create],
            env=with_key,
            check=True,
            capture_output=True,
        )
        yield


@pytest.mark.slow
@pytest.mark.needs("postgres")
@pytest.mark.timeout(600)
def test_the_same_services_without_containers_turn_a_wheel(
    fresh: Wheel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ports = {"@postgres:5432": free_port(), "prefect:4200": free_port()}
    described = services()

    def here(value: object) -> str:
        """What a service is told, where each of them is this machine."""
        text = str(value)
        for place, port in ports.items():
            text = text.replace(place, f"{place[0] if place[0] == '@' else ''}127.0.0.1:{port}")
        return text

    def settings(name: str, **others: str) -> dict[str, str]:
        told = {key: here(value) for key, value in described[name]["environment"].items()}
        return without("HF_HUB_OFFLINE", "FLYWHEEL_HOME", "PREFECT_HOME") | told | others

    def words(name: str) -> list[str]:
        program, *rest = described[name]["command"]
        told = [str(Path(sys.executable).with_name(program)), *map(str, rest)]
        return [{"0.0.0.0": "127.0.0.1", "4200": str(ports["prefect:4200"])}.get(word, word) for word in told]

    database = Path(shutil.copytree(tmp_path_factory.mktemp("empty"), f"/tmp/flywheel-postgres-{secrets.token_hex(4)}"))
    prefect = settings("prefect", PREFECT_HOME=str(fresh.folder / "server"))
    wheel = settings("flywheel", FLYWHEEL_HOME=str(fresh.home), PREFECT_HOME=str(fresh.folder / "client"))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": fresh.folder}
    try:
        with (
            postgres(database, ports["@postgres:5432"], described["postgres"]["environment"]),
            running(words("prefect"), env=prefect, **quiet) as server,
        ):
            served = Served(fresh, server, ports["prefect:4200"])  # type: ignore[arg-type]  # which reads no text of it
            wait(lambda: server.poll() is None and answers(served), "prefect's server")
            with running(words("flywheel"), env=wheel, **quiet) as flywheel:
                wait(lambda: flywheel.poll() is None and is_ready(served), "the deployments")
                health = [
                    str(Path(sys.executable).with_name("prefect")),
                    *described["flywheel"]["healthcheck"]["test"][2:],
                ]
                assert subprocess.run(health, env=wheel, capture_output=True).returncode == 0
                ended = served.finish(served.start("flywheel", rounds=1))
                assert ended["state"]["type"] == "COMPLETED", ended["state"]["message"]
        assert fresh.count("rounds") == 2
    finally:
        shutil.rmtree(database, ignore_errors=True)


def answers(served: Served) -> bool:
    try:
        return served.ask("GET", "/health") is True
    except OSError:
        return False
