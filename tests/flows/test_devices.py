"""Who holds a GPU. The locks and the limits know GPUs by name alone, so that no GPU is needed to hold one."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from models.policy.load import PolicyError, first_gpu, gpus_of, sampling_gpus, seen_alone
from models.policy.settings import PolicySettings
from storage.home import Home
from tasks.devices import held

SERVE = """
import sys
from pathlib import Path
from flows.orchestrator import serve_prefect
from storage.home import Home
with serve_prefect(Home.open(Path(sys.argv[1]), create=True), 0, "") as server:
    print(server.api, flush=True)
    sys.stdin.readline()
"""
HOLD = """
import sys
from pathlib import Path
from storage.home import Home
home = Home.open(Path(sys.argv[1]), create=True)
if len(sys.argv) > 3:
    from flows.orchestrator import start_prefect
    start_prefect(home, sys.argv[3])
from tasks.devices import held
from tasks.progress import heard_by
class Printer:
    def say(self, text): print(text, flush=True)
with heard_by(Printer()), held(home, sys.argv[2].split(), Printer().say):
    with held(home, sys.argv[2].split()[:1], print):
        pass
    print("has them", flush=True)
    sys.stdin.readline()
print("let go", flush=True)
"""
HOST = socket.gethostname()

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program with arguments; all end with the test."""
    processes: list[subprocess.Popen[str]] = []

    def begin(program: str, *arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", program, *map(str, arguments)]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().rstrip()


def end(process: "subprocess.Popen[str]") -> None:
    assert process.communicate("\n", timeout=60)[0] == "let go\n"


def test_a_process_waits_for_the_one_that_holds_its_gpu_and_says_who_that_is(tmp_path: Path, start: Start) -> None:
    holder = start(HOLD, tmp_path, "cuda:0 cuda:1")
    assert said(holder) == "has them"
    beside, waiting = start(HOLD, tmp_path, "cuda:2"), start(HOLD, tmp_path, "cuda:3 cuda:1")
    assert said(beside) == "has them"
    assert f"on {HOST}, process {holder.pid}, since " in said(waiting)
    end(holder)
    assert said(waiting) == "has them"


def test_processes_that_see_a_gpu_each_wait_for_the_same_one_alone(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for visible in ("0", "1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert said(start(HOLD, tmp_path, "cuda:0")) == "has them"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert said(start(HOLD, tmp_path, "cuda:1")).startswith("waits for cuda:1, which ")


def test_a_gpu_is_let_go_with_the_last_thread_that_holds_it(tmp_path: Path) -> None:
    home, said_here = Home.open(tmp_path, create=True), list[str]()
    outer = held(home, ["cuda:5"], said_here.append)
    name = f"{HOST}-cuda5.lock"
    with outer:
        inner = held(home, ["cuda:5"], said_here.append)
        inner.__enter__()
    assert home.claimed(name)
    inner.__exit__(None, None, None)
    assert not home.claimed(name) and said_here == []


def test_what_fails_while_a_gpu_is_held_is_not_taken_for_a_busy_gpu(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), held(Home.open(tmp_path, create=True), ["cuda:5"], print):
        raise BlockingIOError(11, "no more processes")


def test_a_gpu_is_free_when_its_holder_is_killed(tmp_path: Path, start: Start) -> None:
    holder = start(HOLD, tmp_path, "cuda:0")
    assert said(holder) == "has them"
    waiting = start(HOLD, tmp_path, "cuda:0")
    assert said(waiting).startswith("waits for cuda:0, which ")
    holder.kill()
    assert said(waiting) == "has them"


@pytest.mark.slow
def test_of_two_homes_one_has_a_gpu_by_the_limit_of_their_prefect_server(tmp_path: Path, start: Start) -> None:
    api = said(start(SERVE, tmp_path / "server"))
    holder = start(HOLD, tmp_path / "one", "cuda:0", api)
    assert said(holder) == "has them"
    limit = f"{api}/v2/concurrency_limits/{HOST}%20cuda:0"
    shown = httpx.get(limit, trust_env=False).raise_for_status().json()
    assert (shown["limit"], shown["active_slots"], shown["active"]) == (1, 1, True)

    other = start(HOLD, tmp_path / "two", "cuda:0", api)
    assert said(other) == f"waits for a slot of Prefect's concurrency limit '{HOST} cuda:0'; its UI shows who has it"
    end(holder)
    assert said(other) == "has them"
    end(other)
    assert httpx.get(limit, trust_env=False).json()["active_slots"] == 0


@pytest.mark.slow
def test_a_prefect_server_that_goes_away_takes_nothing_from_who_holds_a_gpu(tmp_path: Path, start: Start) -> None:
    server = start(SERVE, tmp_path / "server")
    holder = start(HOLD, tmp_path / "one", "cuda:0", said(server))
    assert said(holder) == "has them"
    server.kill()
    server.wait()
    out, _ = holder.communicate("\n", timeout=60)
    assert out.startswith(f"Prefect's slot of '{HOST} cuda:0' comes back by itself") and out.endswith("let go\n")


@pytest.mark.slow
def test_a_limit_that_people_widened_stays_as_they_want_it(tmp_path: Path, start: Start) -> None:
    api = said(start(SERVE, tmp_path / "server"))
    wide = {"name": f"{HOST} cuda:0", "limit": 2}
    httpx.post(f"{api}/v2/concurrency_limits/", json=wide, trust_env=False).raise_for_status()
    for home in ("one", "two"):
        assert said(start(HOLD, tmp_path / home, "cuda:0", api)) == "has them"


def test_the_gpus_that_sampling_takes_follow_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus_of("cpu", 4) == sampling_gpus(PolicySettings(device="cpu")) == []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert gpus_of("cuda:1", 2) == ["cuda:1", "cuda:2"]
    served = PolicySettings(engine="server", device="cuda", tensor_parallel=2, data_parallel=2)
    assert sampling_gpus(served) == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    assert sampling_gpus(PolicySettings(device="cuda", tensor_parallel=2)) == ["cuda:0"]
    assert sampling_gpus(PolicySettings(engine="server", device="cuda", server="http://gpu1:8001")) == []
    assert (first_gpu("auto"), first_gpu("cuda"), first_gpu("cuda:3")) == (0, 0, 3)


def test_a_program_sees_its_gpus_alone_also_where_this_process_sees_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert seen_alone(["cuda:1", "cuda:2"]) == {"CUDA_VISIBLE_DEVICES": "1,2"} and seen_alone([]) == {}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,GPU-7")
    assert seen_alone(["cuda:1", "cuda:2"]) == {"CUDA_VISIBLE_DEVICES": "5,GPU-7"}


def test_a_gpu_that_is_not_there_is_told() -> None:
    with pytest.raises(PolicyError, match="torch sees no CUDA devices here"):
        gpus_of("cuda:1")


def test_more_gpus_than_there_are_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    with pytest.raises(PolicyError, match="2 GPUs from cuda:3 on are asked for, and torch sees 4 CUDA devices here"):
        gpus_of("cuda:3", 2)
