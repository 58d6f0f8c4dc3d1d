"""`flywheel serve`: Prefect's server and UI for real, a browser that presses Run, and a clock that turns the wheel."""

import http.client
import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from storage.home import Home
from storage.warehouse import Warehouse
from tests.flows.conftest import TIMEOUT_S, Wheel

pytestmark = pytest.mark.slow

ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
DOCS = Path(__file__).parents[2] / "docs"


@dataclass
class Served:
    """A wheel that is served: its process, and Prefect's API."""

    wheel: Wheel
    process: "subprocess.Popen[str]"
    port: int

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """What the API answers; {} for nothing, a number for an error.

        Asks again, as Prefect's clients do, where its database was busy.
        """
        status = http.HTTPStatus.SERVICE_UNAVAILABLE
        while status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
                headers = {"content-type": "application/json"}
                connection.request(method, "/api" + path, None if body is None else json.dumps(body), headers)
                answer = connection.getresponse()
                status, text = answer.status, answer.read()
        return (json.loads(text) if text else {}) if status < 400 else status

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/deployments/name/{name}/{name}")
        return found

    def start(self, name: str, **choices: object) -> Any:
        """Run a deployment as the UI does; gives the flow run, or the number of an error."""
        body = {"parameters": {"choices": choices}, "state": {"type": "SCHEDULED"}}
        return self.ask("POST", f"/deployments/{self.deployment(name)['id']}/create_flow_run", body)

    def runs(self, name: str) -> list[dict[str, Any]]:
        """Flow runs of a deployment, by when they were to start."""
        body = {"deployments": {"id": {"any_": [self.deployment(name)["id"]]}}, "sort": "EXPECTED_START_TIME_ASC"}
        found: list[dict[str, Any]] = self.ask("POST", "/flow_runs/filter", body)
        return found

    def finish(self, run: dict[str, Any]) -> dict[str, Any]:
        """The run at its end."""
        found: dict[str, Any] = wait(lambda: self.ended(run["id"]), f"the end of {run['name']}")
        return found

    def ended(self, run_id: str) -> dict[str, Any] | None:
        run: dict[str, Any] = self.ask("GET", f"/flow_runs/{run_id}")
        return run if run["state"]["type"] in ENDED else None

    def artifacts(self, run: dict[str, Any]) -> dict[str, str]:
        """Key to content of what is on the run's page."""
        body = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
        return {one["key"]: one["data"] for one in self.ask("POST", "/artifacts/filter", body)}

    def stop(self, signum: int = signal.SIGINT) -> str:
        """Ctrl-C; gives what it said."""
        self.process.send_signal(signum)
        out, err = self.process.communicate(timeout=60)
        assert (self.process.returncode, err) == (0, "")
        assert "Stopped. What is scheduled waits" in out
        return out


def wait(look: Any, what: str, timeout_s: float = TIMEOUT_S) -> Any:
    """What a look gives as soon as it gives something."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.3)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def serve(wheel: Wheel, *sets: str) -> Served:
    """Start `flywheel serve`, and wait until its deployments are there."""
    port = free_port()
    process = wheel.start("serve", *(f"--set={text}" for text in (f"serve.port={port}", *sets)))
    served = Served(wheel, process, port)
    wait(lambda: process.poll() is None and is_ready(served), "the server")
    return served


def is_ready(served: Served) -> bool:
    try:
        return isinstance(served.deployment("rollback"), dict)
    except OSError:
        return False


@pytest.fixture
def served(wheel: Wheel) -> Iterator[Served]:
    """A turned wheel that is served."""
    yield serve(wheel)


@pytest.mark.needs("chromium")
def test_a_retrain_with_a_changed_parameter_runs_from_the_browser(served: Served, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    pictures = tmp_path if (DOCS / "retrain-form.png").exists() else DOCS  # delete them to have them made anew

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(90_000)
        page.goto(served.ui + "/deployments")
        page.get_by_role("link", name="retrain", exact=True).first.click()
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_text("Custom run").first.click()
        page.get_by_text("Passes over the trajectories").wait_for()
        page.locator(".schema-form-property", has_text="Passes").last.locator("input").fill("3")
        page.screenshot(path=pictures / "retrain-form.png")
        page.get_by_role("button", name="Submit").click()
        (run,) = wait(lambda: served.runs("retrain"), "the run")
        assert run["parameters"]["choices"]["epochs"] == 3
        assert served.finish(run)["state"]["type"] == "COMPLETED"
        page.goto(f"{served.ui}/runs/flow-run/{run['id']}")
        page.get_by_text("Artifacts", exact=True).first.click()
        page.get_by_role("link", name="report").first.click()
        page.get_by_text("The candidate learnt from").first.wait_for()
        page.get_by_role("cell", name=re.compile("retrain, after")).first.wait_for()
        picture = page.get_by_role("img", name="Accuracy by round")
        wait(lambda: picture.evaluate("image => image.complete && image.naturalWidth > 500"), "the picture")
        page.screenshot(path=pictures / "retrain-report.png")
        browser.close()
    (row,) = served.wheel.ask("SELECT settings FROM checkpoints ORDER BY created_at DESC LIMIT 1")
    assert json.loads(row["settings"])["epochs"] == 3
    served.stop()


def test_what_a_form_does_not_allow_is_refused_before_it_runs(served: Served) -> None:
    assert served.start("retrain", epochs=-1) == 409
    assert served.start("retrain", selection="everything") == 409
    assert served.start("evaluate", checkpoint="'; DROP TABLE runs; --") == 409
    assert served.start("flywheel", rounds=0) == 409
    assert served.start("flywheel", rouns=2) == 409
    failed = served.finish(served.start("retrain", query="COPY trajectories TO 'x.csv'"))
    assert "found a statement of type COPY" in failed["state"]["message"]
    served.stop()


def test_evaluate_and_rollback_say_on_their_page_what_they_came_to(served: Served) -> None:
    measured = served.finish(served.start("evaluate", checkpoint="initial", split="development"))
    assert served.artifacts(measured)["report"].startswith("initial on development: 0.")
    rolled = served.finish(served.start("rollback", reason="<b>why</b> not"))
    assert "is the champion" in served.artifacts(rolled)["report"] or "again" in served.artifacts(rolled)["report"]
    (last,) = served.wheel.ask("SELECT verdict, reason FROM promotions ORDER BY sequence DESC LIMIT 1")
    assert last == {"verdict": "rolled_back", "reason": "<b>why</b> not"}
    served.stop()


@pytest.mark.timeout(600)
def test_a_schedule_fires_on_time_three_times_while_someone_reads(wheel: Wheel) -> None:
    interval_s = 45
    served = serve(wheel, f"serve.interval_s={interval_s}")
    before, failures, is_over = wheel.count("rounds"), list[str](), threading.Event()

    def read() -> None:
        warehouse = Warehouse(Home(wheel.home))
        while not is_over.is_set():
            try:
                warehouse.ask("SELECT round, count(*) FROM trajectories GROUP BY ALL")
            except Exception as error:
                failures.append(repr(error))
            time.sleep(0.2)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        done = wait(lambda: three_ended(served), "three turns", timeout_s=400)
    finally:
        is_over.set()
        reader.join()
    assert failures == []
    assert [run["state"]["type"] for run in done] == ["COMPLETED"] * 3
    expected = [datetime.fromisoformat(run["expected_start_time"]) for run in done]
    assert [later - earlier for earlier, later in pairwise(expected)] == [timedelta(seconds=interval_s)] * 2
    assert all(run["estimated_start_time_delta"] < interval_s for run in done)
    assert wheel.count("rounds") >= before + 3
    served.stop()


def three_ended(served: Served) -> list[dict[str, Any]] | None:
    """The first three turns that were due, when all of them have ended."""
    due = [run for run in served.runs("flywheel") if run["state"]["type"] != "SCHEDULED"][:3]
    return due if len(due) == 3 and all(run["state"]["type"] in ENDED for run in due) else None


def test_a_restart_leaves_schedules_as_people_made_them(wheel: Wheel) -> None:
    sets = ("serve.cron=0 2 * * *", "serve.timezone=Europe/Berlin", "serve.rounds=2")
    served = serve(wheel, *sets)
    (schedule,) = wait(lambda: served.deployment("flywheel")["schedules"], "the schedule")
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 2 * * *", "Europe/Berlin")
    assert (schedule["active"], schedule["parameters"]) == (True, {"choices": {"rounds": 2}})
    identity = served.deployment("flywheel")["id"]
    wait((wheel.home / "prefect" / "serve.json").exists, "what was said about it")
    assert served.ask("PATCH", f"/deployments/{identity}/schedules/{schedule['id']}", {"active": False}) == {}
    wait(lambda: [one["active"] for one in schedules(served)] == [False], "its pause")
    retrain = served.deployment("retrain")["id"]
    assert served.ask("POST", f"/deployments/{retrain}/pause_deployment") is None
    served.stop()

    again = serve(wheel, *sets)
    time.sleep(5)  # for what would be changed
    assert again.deployment("flywheel")["id"] == identity
    assert [one["active"] for one in again.deployment("flywheel")["schedules"]] == [False]
    assert again.deployment("retrain")["paused"]
    again.stop()

    changed = serve(wheel, "serve.interval_s=3600")
    wait(lambda: [s["schedule"].get("interval") for s in schedules(changed)] == [3600], "the other schedule")
    assert [one["active"] for one in schedules(changed)] == [True]
    changed.stop()


def schedules(served: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = served.deployment("flywheel")["schedules"]
    return found


def test_what_was_missed_does_not_pile_up_and_what_was_killed_is_told(wheel: Wheel) -> None:
    served = serve(wheel)
    deployment = served.deployment("flywheel")["id"]
    stuck = served.ask(
        "POST", f"/deployments/{deployment}/create_flow_run", {"state": {"type": "RUNNING", "name": "Running"}}
    )
    served.process.kill()
    served.process.wait()
    again = serve(wheel)
    assert again.finish(stuck)["state"]["message"] == "Its process went with `flywheel serve`."
    again.stop()


def test_of_turns_that_were_missed_the_newest_is_caught_up_on(wheel: Wheel) -> None:
    served = serve(wheel, "serve.interval_s=10")
    wait(lambda: [run for run in served.runs("flywheel") if run["state"]["type"] == "SCHEDULED"][8:], "its plan")
    served.process.kill()
    served.process.wait()
    time.sleep(35)  # in which three are due
    again = serve(wheel, "serve.interval_s=10")

    def left_out() -> list[dict[str, Any]]:
        return [run for run in again.runs("flywheel") if run["state"]["message"] == "Late, and a newer one was too."]

    wait(lambda: left_out()[1:], "those that are left out")
    assert {run["state"]["type"] for run in left_out()} == {"CANCELLED"}
    last = left_out()[-1]["expected_start_time"]
    kept = next(run for run in again.runs("flywheel") if run["expected_start_time"] > last)
    assert again.finish(kept)["state"]["type"] == "COMPLETED"
    again.stop()


def test_a_turn_is_left_out_while_the_wheel_turns_and_turns_no_more_than_it_should(wheel: Wheel) -> None:
    served = serve(wheel)
    turning = wheel.start("run", "--rounds", "100", "--set", "learning.epochs=1.5", "--set", "run.plateau_after=99")
    wheel.wait_for("lake/draws/*", len(wheel.ask("FROM rounds")) + 1, turning)
    left_out = served.finish(served.start("flywheel", rounds=1))
    assert left_out["state"]["type"] == "CANCELLED"
    assert left_out["state"]["message"].startswith("Left out: the wheel is turned already, by ")
    turning.kill()  # broken off with many rounds left, and under settings of its own
    turning.communicate()
    done = wheel.ask("SELECT max(round) AS round FROM rounds")[0]["round"]
    assert served.finish(served.start("flywheel", rounds=1))["state"]["type"] == "COMPLETED"
    assert wheel.ask("SELECT max(round) AS round FROM rounds")[0]["round"] == done + 1
    states = [row["state"] for row in wheel.ask("SELECT state FROM current_runs ORDER BY started_at")]
    assert "abandoned" in states and states[-1] in ("finished", "plateau")
    served.stop()


def test_a_run_that_was_broken_off_is_finished_under_its_own_settings_but_how_it_is_computed(wheel: Wheel) -> None:
    turning = wheel.start("run", "--rounds", "1", "--set", "learning.epochs=1.5")
    wheel.wait_for("lake/trajectories/*", len(list((wheel.home / "lake" / "trajectories").glob("*"))) + 1, turning)
    turning.kill()
    turning.communicate()
    served = serve(wheel, "learning.forward_tokens=4096")
    assert served.finish(served.start("flywheel", rounds=1))["state"]["type"] == "COMPLETED"
    (last,) = wheel.ask("SELECT state, config FROM current_runs ORDER BY started_at DESC LIMIT 1")
    learning = json.loads(last["config"])["learning"]
    assert (last["state"], learning["epochs"], learning["forward_tokens"]) == ("finished", 1.5, 4096)
    served.stop()


def test_a_server_that_others_use_keeps_their_deployments(wheel: Wheel, tmp_path: Path) -> None:
    other = wheel.copy(tmp_path / "other")
    served = serve(wheel)
    refused = other("serve", f"--set=serve.url={served.ui}/api", status=1).stderr
    assert "has a deployment flywheel already, which is not this home's: delete it there" in refused
    served.stop()


def test_one_home_is_served_once_and_other_commands_join(served: Served) -> None:
    second = served.wheel("serve", f"--set=serve.port={free_port()}", status=1)
    assert (
        second.stderr
        == f"flywheel: this home is served already at {served.ui}; stop that `flywheel serve` to start another.\n"
    )
    turning = served.wheel.start("run", "--rounds", "9")
    served.wheel.wait_for("lake/draws/*", len(served.wheel.ask("FROM rounds")) + 1, turning)
    turning.send_signal(signal.SIGINT)
    out, _ = turning.communicate(timeout=TIMEOUT_S)
    assert "Stopped. Nothing is lost" in out and "While it stopped" not in out
    named = [run for run in served.ask("POST", "/flow_runs/filter", {}) if run["name"].startswith("run ")]
    last = max(named, key=lambda run: str(run["created"]))
    assert last["state"]["type"] == "CANCELLED" and "goes on from here" in last["state"]["message"]
    served.stop(signal.SIGTERM)


def test_a_server_that_dies_ends_who_served_it(wheel: Wheel) -> None:
    served = serve(wheel)
    (server,) = [child for child in psutil.Process(served.process.pid).children() if "flows.server" in child.cmdline()]
    server.kill()
    out, err = served.process.communicate(timeout=60)
    assert served.process.returncode == 1 and "Stopped" not in out
    assert err == (
        f"flywheel: prefect's server has ended; {wheel.home}/logs/server.log may say why. The same command serves "
        "again; what was under way goes on with the next run.\n"
    )
    serve(wheel).stop()


def test_an_occupied_port_is_told(wheel: Wheel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = wheel("serve", f"--set=serve.port={port}", status=1)
    assert refused.stderr.startswith(f"flywheel: cannot listen on port {port} (")
    assert f"--set serve.port={port + 1}" in refused.stderr


def test_the_shells_prefect_is_told_and_not_followed(wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = wheel.folder / "foreign.db"
    toml = f'[server.database]\nconnection_url = "sqlite+aiosqlite:///{foreign}"\n'
    (wheel.folder / "prefect.toml").write_text(toml)
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_x")
    monkeypatch.setenv("PREFECT_API_URL", "https://api.prefect.cloud/api/accounts/x")
    served = serve(wheel)
    out = served.stop()
    assert out.startswith("ignored: PREFECT_API_KEY of the shell; serve.url joins another server\n")
    assert "prefect.toml in this folder speaks of Prefect: its server does not follow it here" in out
    assert not foreign.exists() and (wheel.home / "prefect" / "prefect.db").exists()
    assert re.search(r"^API   http://127\.0\.0\.1:\d+/api$", out, re.M)


def test_a_retrain_waits_for_its_place_between_two_rounds(wheel: Wheel) -> None:
    run = wheel.start("run", "--rounds", "3")
    rounds = wheel.count("rounds")
    wheel.wait_for(
        "lake/trajectories/*.parquet", num=len(list(wheel.home.glob("lake/trajectories/*"))) + 1, process=run
    )
    asked = datetime.now(UTC)
    retrained = wheel("retrain", "newest")
    out, err = run.communicate(timeout=TIMEOUT_S)
    assert (run.returncode, err) == (0, ""), err
    assert "waits for" in retrained.stdout and "gives way to" in out
    assert wheel.count("rounds") == rounds + 3
    order = wheel.ask(
        "SELECT r.kind FROM promotions p JOIN current_runs r USING (run_id) "
        f"WHERE p.created_at > '{asked.isoformat()}' ORDER BY sequence"
    )
    assert {"kind": "retrain"} in order[:-1]


def test_work_pools_are_offered_the_same_deployments() -> None:
    import yaml  # of Prefect's own needs

    from flows.deployed import DEPLOYED
    from flows.serve import STRATEGIES
    from flows.workers import DEPLOYMENT, search_shard

    *said, shards = yaml.safe_load((DOCS.parent / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert shards["entrypoint"] == f"flows/workers.py:{search_shard.fn.__name__}"
    assert f"{search_shard.name}/{shards['name']}" == DEPLOYMENT
    assert {one["name"] for one in said} == set(DEPLOYED)
    for one in said:
        path, _, function = one["entrypoint"].partition(":")
        assert path == "flows/deployed.py" and DEPLOYED[one["name"]].fn.__name__ == function
        assert one["concurrency_limit"] == {"limit": 1, "collision_strategy": STRATEGIES[one["name"]].value}
