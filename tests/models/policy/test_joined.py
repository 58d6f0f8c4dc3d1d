"""A keeper has a server serve the checkpoint that is asked for: a small one, and the real vLLM, killed at work."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import httpx
import psutil
import pytest

from models.learning.finetune import build_from_scratch
from models.learning.settings import InitializationSettings
from models.policy.find import PolicyError
from models.policy.joined import Joined
from models.policy.keeper import Keeper
from models.policy.load import open_engine
from models.policy.protocol import Completion, Engine, Request
from models.policy.serving import authorized, free_port
from models.policy.settings import PolicySettings
from storage.countdown import CountdownProblems
from storage.demonstrations import CHARACTERS, countdown_demonstrations
from tests.models.policy.test_server_engine import ROOT, SHAPE, drain

KEY = "secret-key"
SMALL = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
told = dict(zip(sys.argv[2:], sys.argv[3:]))
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = json.dumps({"data": [{"id": told["--served-model-name"], "pid": os.getpid()}]}).encode()
        self.send_response(200 if self.headers["Authorization"] == "Bearer " + os.environ["VLLM_API_KEY"] else 401)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *_): pass
HTTPServer((told["--host"], int(told["--port"])), Handler).serve_forever()
"""

Keep = Callable[..., tuple[str, "subprocess.Popen[bytes]"]]


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Keep]:
    """Starts a keeper; gives its address and its process."""
    kept: list[subprocess.Popen[bytes]] = []

    def start(command: str, port: int = 0) -> tuple[str, "subprocess.Popen[bytes]"]:
        port = port or free_port()
        words = [sys.executable, "-m", "models.policy.keeper", "--folder", tmp_path, "--serve", command]
        kept.append(
            subprocess.Popen([*words, "--port", str(port)], cwd=ROOT, env=os.environ | {"FLYWHEEL_SERVER_KEY": KEY})
        )
        wait(lambda: answers_at(f"http://127.0.0.1:{port}/health"), "the keeper")
        return f"http://127.0.0.1:{port}", kept[-1]

    yield start
    for process in kept:
        process.kill()
        process.wait()


@pytest.fixture
def small(tmp_path: Path) -> str:
    """The command of a server that says whose checkpoint it serves, and which process it is."""
    script = tmp_path / "small.py"
    script.write_text(SMALL)
    return f"{sys.executable} {script}"


def checkpoint(root: Path, name: str) -> Path:
    (root / name).mkdir()
    return root / name


def served(joined: Joined) -> dict[str, object]:
    told = httpx.get(f"{joined.url}/models", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False)
    found: dict[str, object] = told.raise_for_status().json()["data"][0]
    return found


def test_each_checkpoint_is_served_by_a_server_of_its_own(keep: Keep, small: str, tmp_path: Path) -> None:
    url, keeper = keep(small)
    first = served(Joined(url, checkpoint(tmp_path, "first"), key=KEY, patience_s=5))
    joined = Joined(url, checkpoint(tmp_path, "second"), key=KEY, patience_s=5)
    second = served(joined)
    assert (first["id"], second["id"]) == ("first", "second") and first["pid"] != second["pid"]
    joined.revive()
    assert served(joined) == second, "what is served already goes on"
    processes = psutil.Process(keeper.pid).children(recursive=True)
    keeper.kill()
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert processes and not alive, "a server ends with its keeper"


def test_a_checkpoint_that_was_made_anew_is_served_anew(keep: Keep, small: str, tmp_path: Path) -> None:
    url, _ = keep(small)
    folder = checkpoint(tmp_path, "first")
    before = served(Joined(url, folder, key=KEY, patience_s=5))
    (tmp_path / "other").mkdir()
    folder.rmdir()
    checkpoint(tmp_path, "first")
    assert served(Joined(url, folder, key=KEY, patience_s=5))["pid"] != before["pid"]


def test_a_start_that_nobody_wants_any_more_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.policy.keeper.ANSWER_S", 0.05)
    slow, begun = tmp_path / "slow.py", tmp_path / "begun"
    slow.write_text(f"import sys, time; open({str(begun)!r}, 'a').write(sys.argv[3] + ' '); time.sleep(2)\n" + SMALL)
    keeper = Keeper(tmp_path, f"{sys.executable} {slow}", host="127.0.0.1", port=free_port(), key=KEY)
    first, second = checkpoint(tmp_path, "first"), checkpoint(tmp_path, "second")
    for folder in (first, second, first, second, second):
        assert not keeper.serve(folder)
    wait(lambda: keeper.serve(second), "the server")
    keeper.stop()
    assert begun.read_text() == "first second "


def test_one_that_died_is_started_again_once_for_all_who_ask(keep: Keep, small: str, tmp_path: Path) -> None:
    url, keeper = keep(small)
    joined = Joined(url, checkpoint(tmp_path, "first"), key=KEY, patience_s=5)
    before = served(joined)
    psutil.Process(int(str(before["pid"]))).kill()

    def is_back() -> bool:
        askers = [threading.Thread(target=joined.revive) for _ in range(20)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        return answers_at(f"{joined.url}/models", KEY)

    wait(is_back, "the server")
    assert served(joined)["pid"] != before["pid"]
    at_work = [each for each in psutil.Process(keeper.pid).children(recursive=True) if each.ppid() != keeper.pid]
    assert len(at_work) == 1


def test_a_keeper_that_is_not_there_yet_is_waited_for(keep: Keep, small: str, tmp_path: Path) -> None:
    port, folder = free_port(), checkpoint(tmp_path, "first")
    found: list[Joined] = []
    asking = threading.Thread(
        target=lambda: found.append(Joined(f"http://127.0.0.1:{port}", folder, key=KEY, patience_s=60))
    )
    asking.start()
    keep(small, port)
    asking.join()
    assert served(found[0])["id"] == "first"


def test_what_it_will_not_do_is_told_and_the_key_is_not(keep: Keep, small: str, tmp_path: Path) -> None:
    url, _ = keep(small)
    folder, outside, link = checkpoint(tmp_path, "first"), tmp_path.parent, tmp_path / "link"
    link.symlink_to(outside)
    for asked, key, told in (
        (folder, "another", "401 .*the key is not this keeper's FLYWHEEL_SERVER_KEY"),
        (outside, KEY, "there is no checkpoint"),
        (link, KEY, "there is no checkpoint"),
        (tmp_path / "none", KEY, "as this machine sees it"),
    ):
        with pytest.raises(PolicyError, match=told) as error:
            Joined(url, asked, key=key, patience_s=1)
        assert KEY not in str(error.value)
    broken, _ = keep(f"{sys.executable} -c \"import sys; sys.exit('out of order')\"")
    with pytest.raises(PolicyError, match="does not serve: out of order"):
        Joined(broken, folder, key=KEY, patience_s=1)
    with pytest.raises(PolicyError, match="did not answer for 0 s: ConnectError"):
        Joined(f"http://127.0.0.1:{free_port()}", folder, key=KEY, patience_s=0.1)


def test_who_asks_while_a_server_starts_is_told_so_and_a_start_that_failed_is_told_once(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.policy.keeper.ANSWER_S", 0.05)
    late, folder = tmp_path / "late.py", checkpoint(tmp_path, "first")
    late.write_text("import sys, time; time.sleep(1); sys.exit('out of order')")
    keeper = Keeper(tmp_path, f"{sys.executable} {late}", host="127.0.0.1", port=free_port(), key=KEY)

    def is_told() -> bool:
        try:
            return keeper.serve(folder)
        except PolicyError as error:
            return "out of order" in str(error)

    assert not keeper.serve(folder), "it starts"
    wait(is_told, "the failure")
    assert not keeper.serve(folder), "it is tried again"
    wait(is_told, "the second failure")
    late.write_text(SMALL)
    wait(lambda: keeper.serve(folder), "the server")
    keeper.stop()


def test_a_keeper_wants_a_key(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "models.policy.keeper", "--folder", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "FLYWHEEL_SERVER_KEY"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "FLYWHEEL_SERVER_KEY is not set" in done.stderr


def make_policy(folder: Path, seed: int) -> list[str]:
    """A small policy, and prompts."""
    walks = list(islice(countdown_demonstrations(CountdownProblems(), seed=seed, behaviour_share=0.1), 1500))
    texts = [(walk.prompt, walk.completion) for walk in walks]
    build_from_scratch(texts, CHARACTERS, InitializationSettings(), SHAPE, seed=seed, device="cpu").save(folder)
    return [prompt for prompt, _ in texts]


def answers(engine: Engine, requests: list[Request]) -> dict[int, Completion]:
    for key, request in enumerate(requests):
        engine.add(key, request)
    return dict(drain(engine))


@pytest.mark.slow
@pytest.mark.needs("vllm")
@pytest.mark.timeout(900)
def test_vllm_serves_each_checkpoint_and_again_after_it_was_killed(
    keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, candidate = tmp_path / "first", tmp_path / "candidate"
    make_policy(first, 0)
    prompts = make_policy(candidate, 1)
    monkeypatch.setenv("FLYWHEEL_SERVER_KEY", KEY)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    url, keeper = keep(f"{ROOT}/.venv-vllm/bin/vllm serve --dtype float32 --enforce-eager")
    joined = PolicySettings(engine="server", server=url, max_rows=32)
    greedy = [Request(prompt=prompt, temperature=0, max_new_tokens=40) for prompt in prompts[:40]]
    expected = {folder: answers(open_engine(folder, PolicySettings()), greedy) for folder in (first, candidate)}

    engine = open_engine(first, joined)
    assert agree(answers(engine, greedy), expected[first]) >= 38
    engine.close()

    engine = open_engine(candidate, joined)
    found = answers(engine, greedy)
    assert agree(found, expected[candidate]) >= 38 and agree(found, expected[first]) < 30
    sampling = [Request(prompt=prompt, seed=seed, max_new_tokens=40) for seed, prompt in enumerate(prompts[:300])]
    undisturbed = answers(engine, sampling)
    for key, request in enumerate(sampling):
        engine.add(key, request)
    pieces = engine.step()
    for process in psutil.Process(keeper.pid).children(recursive=True):
        process.kill()
    pieces += drain(engine)
    assert Counter(key for key, _ in pieces) == Counter(range(300))
    assert agree(dict(pieces), undisturbed) >= 285
    engine.close()
    assert psutil.Process(keeper.pid).children(), "the server is its keeper's, and goes on"


def agree(one: dict[int, Completion], other: dict[int, Completion]) -> int:
    return sum(one[key].token_ids == other[key].token_ids for key in other)


def answers_at(url: str, key: str = "") -> bool:
    try:
        return httpx.get(url, headers=authorized(key), trust_env=False).is_success
    except httpx.HTTPError:
        return False


def wait(look: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.1)
