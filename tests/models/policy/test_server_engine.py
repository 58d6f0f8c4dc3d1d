"""An engine over HTTP: a small server that misbehaves, and the real `vllm serve`, killed in mid-search."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest

from models.learning.examples import Solution
from models.learning.finetune import build_from_scratch, finetune
from models.learning.settings import InitializationSettings, LearningSettings
from models.policy.find import PolicyError
from models.policy.load import open_engine
from models.policy.protocol import Completion, Engine, Request
from models.policy.scratch import build_tokenizer
from models.policy.server_engine import ServerEngine
from models.policy.settings import PolicySettings, ScratchSettings
from storage.countdown import CountdownProblems
from storage.demonstrations import CHARACTERS, countdown_demonstrations

ROOT = Path(__file__).parents[3]
TOKENIZER = build_tokenizer([CHARACTERS], context=64)
DIGITS = [TOKENIZER.convert_tokens_to_ids(character) for character in "12;"]


def drain(engine: Engine) -> list[tuple[int, Completion]]:
    answers = []
    while finished := engine.step():
        answers += finished
    return answers


Reply = tuple[int, dict[str, Any]] | None
"""A status and a body; None drops the connection."""


class Small:
    """A server on loopback that answers as it is told, each request in turn."""

    def __init__(self, reply: Callable[[int, dict[str, Any]], Reply], cards: list[dict[str, Any]]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        small = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer((200, {"data": cards}))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                small.keys.add(self.headers["authorization"])
                small.bodies.append(body)
                self.answer(reply(len(small.bodies), body))

            def answer(self, reply: Reply) -> None:
                if reply is None:
                    self.close_connection = True
                    return
                content = json.dumps(reply[1]).encode()
                self.send_response(reply[0])
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def open(self, **changes: Any) -> ServerEngine:
        chosen: dict[str, Any] = {"key": "secret-key", "max_rows": 4, "timeout_s": 5.0, "patience_s": 5.0} | changes
        return ServerEngine(f"http://127.0.0.1:{self.server.server_port}/v1", "policy", TOKENIZER, **chosen)


def right(tokens: list[int], reason: str = "stop", stop: str | None = None) -> Reply:
    logprobs = {"token_logprobs": [-0.5] * len(tokens)}
    choice = {"token_ids": tokens, "logprobs": logprobs, "finish_reason": reason, "stop_reason": stop}
    return 200, {"choices": [choice], "usage": {"total_tokens": 9}}


@pytest.fixture
def small() -> Iterator[Callable[[Callable[[int, dict[str, Any]], Reply]], Small]]:
    made = []

    def make(reply: Callable[[int, dict[str, Any]], Reply], cards: list[dict[str, Any]] | None = None) -> Small:
        made.append(Small(reply, cards or [{"id": "policy", "max_model_len": 64}]))
        return made[-1]

    yield make
    for each in made:
        each.server.shutdown()


def test_a_server_that_is_busy_broken_or_gone_is_asked_again_and_answers_once(small: Any) -> None:
    replies: dict[int, Reply] = {1: (429, {}), 2: (503, {}), 3: None, 4: (500, {"error": "boom"})}
    server = small(lambda number, body: replies[number] if number in replies else right([*DIGITS, 1]))
    engine = server.open()
    for key in range(6):
        engine.add(key, Request(prompt="1 2>3;", seed=key, max_new_tokens=8))
    answers = drain(engine)
    assert sorted(key for key, _ in answers) == list(range(6))
    assert {answer.text for _, answer in answers} == {"12;"}
    assert {answer.stop_reason for _, answer in answers} == {"end"}
    assert len(server.bodies) == 6 + len(replies)
    assert server.keys == {"Bearer secret-key"}
    engine.close()


def test_an_answer_that_a_server_broke_off_is_asked_for_again(small: Any) -> None:
    server = small(lambda number, body: right(DIGITS[:1], "abort") if number == 1 else right([*DIGITS, 1]))
    engine = server.open()
    engine.add(0, Request(prompt="1 2>3;", max_new_tokens=8))
    ((_, answer),) = drain(engine)
    assert (answer.text, answer.stop_reason, len(server.bodies)) == ("12;", "end", 2)
    engine.close()


def test_a_server_that_takes_long_to_start_again_is_asked_then(small: Any) -> None:
    server = small(lambda number, body: None if number == 1 else right([*DIGITS, 1]))
    engine = server.open(patience_s=0.2, revive=lambda: time.sleep(0.5))
    engine.add(0, Request(prompt="1 2>3;", max_new_tokens=8))
    ((_, answer),) = drain(engine)
    assert answer.text == "12;"
    engine.close()


def test_the_context_of_adapters_is_their_models(small: Any) -> None:
    cards = [{"id": "base", "max_model_len": 64}, {"id": "policy"}]
    engine = small(lambda number, body: right([*DIGITS, 1]), cards).open()
    assert engine.context == 64
    engine.close()


def test_what_it_is_asked_for_is_said_in_full(small: Any) -> None:
    server = small(lambda number, body: right(DIGITS, stop=";") if body["stop"] else right(DIGITS, "length"))
    engine = server.open()
    engine.add(
        0, Request(prompt="1>", prefix=(5,), seed=3, temperature=0.5, max_new_tokens=9, boundary=";", max_steps=2)
    )
    ((_, answer),) = drain(engine)
    assert [piece.text for piece in answer.pieces] == ["12;", "12;"] and answer.stop_reason == "step"
    first, second = server.bodies
    assert first["prompt"] == [*TOKENIZER("1>")["input_ids"], 5] and second["prompt"] == [*first["prompt"], *DIGITS]
    assert (first["temperature"], first["top_p"], first["stop"]) == (0.5, 1.0, ";")
    assert (first["max_tokens"], second["max_tokens"]) == (9, 6)
    assert first["seed"] != second["seed"]
    engine.close()


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ((400, {"error": "no such thing"}), "refuses a request: 400"),
        ((401, {"error": "who are you"}), "refuses a request: 401"),
        ((200, {"choices": [{"text": "12", "finish_reason": "stop"}]}), "returns no token ids"),
        ((500, {"error": "for ever"}), "did not answer for 1 s: 500"),
        (None, "did not answer for 1 s: RemoteProtocolError"),
    ],
)
def test_a_server_that_will_not_do_is_told_and_the_key_is_not(small: Any, reply: Reply, told: str) -> None:
    engine = small(lambda number, body: reply).open(patience_s=1.0)
    engine.add(0, Request(prompt="1 2>3;"))
    with pytest.raises(PolicyError, match=told) as error:
        drain(engine)
    assert "secret" not in str(error.value)
    engine.close()


def test_one_that_is_not_there_is_told() -> None:
    with pytest.raises(PolicyError, match="did not answer for 1 s: ConnectError"):
        ServerEngine("http://127.0.0.1:9/v1", "policy", TOKENIZER, key="", max_rows=4, timeout_s=1, patience_s=1)


def test_a_command_that_serves_nothing_is_told_with_its_last_words(tmp_path: Path) -> None:
    build_from_scratch(
        [("1>", "1;")], CHARACTERS, InitializationSettings(), ScratchSettings(), seed=0, device="cpu"
    ).save(tmp_path)
    command = f"{sys.executable} -c \"import sys; sys.exit('out of order')\""
    with pytest.raises(PolicyError, match="does not serve: out of order"):
        open_engine(tmp_path, PolicySettings(engine="server", server=command))
    with pytest.raises(PolicyError, match="there is no command /nowhere/vllm"):
        open_engine(tmp_path, PolicySettings(engine="server", server="/nowhere/vllm serve"))


SHAPE = ScratchSettings(hidden_size=64, num_layers=2, num_heads=2)
KEEPING = LearningSettings(lora_rank=2, keep_adapters=True, learning_rate=2e-2)
SERVED = PolicySettings(engine="server", server=f"{ROOT}/.venv-vllm/bin/vllm serve", dtype="float32", max_rows=32)


def server_processes() -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if "vllm" in " ".join(each.cmdline()).lower()]


@pytest.mark.slow
@pytest.mark.needs("vllm")
@pytest.mark.timeout(900)
def test_vllm_killed_in_mid_search_is_started_again_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    walks = islice(countdown_demonstrations(CountdownProblems(), seed=0, behaviour_share=0.1), 2000)
    texts = [(walk.prompt, walk.completion) for walk in walks]
    build_from_scratch(texts, CHARACTERS, InitializationSettings(), SHAPE, seed=0, device="cpu").save(tmp_path)
    greedy = [Request(prompt=prompt, temperature=0, max_new_tokens=40) for prompt, _ in texts[:40]]
    sampling = [
        Request(prompt=prompt, seed=seed, max_new_tokens=40, boundary=";")
        for seed, (prompt, _) in enumerate(texts[:300])
    ]
    ours, engine = open_engine(tmp_path, PolicySettings()), open_engine(tmp_path, SERVED)
    answers: list[dict[int, Completion]] = []
    for each in (ours, engine):
        for key, request in enumerate(greedy):
            each.add(key, request)
        answers.append(dict(drain(each)))
    assert sum(answers[0][key].token_ids == answers[1][key].token_ids for key in range(40)) >= 38

    for key, request in enumerate(sampling):
        engine.add(key, request)
    undisturbed = dict(drain(engine))

    for key, request in enumerate(sampling):
        engine.add(key, request)
    found = engine.step()
    for process in server_processes():
        process.send_signal(signal.SIGKILL)
    found += drain(engine)
    assert Counter(key for key, _ in found) == Counter(range(300))
    same = sum(answer.token_ids == undisturbed[key].token_ids for key, answer in found)
    assert same >= 285 and all(answer.token_ids for _, answer in found)

    processes = server_processes()
    assert processes
    engine.close()
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive


@pytest.mark.slow
def test_a_server_ends_with_whoever_started_it(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time\n"
        "from models.kept import kept\n"
        "keeper = subprocess.Popen(kept(['sleep', '1000']), stdin=subprocess.PIPE, start_new_session=True)\n"
        "print(keeper.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    keeper = psutil.Process(int(parent.stdout.readline()))
    deadline = time.monotonic() + 60
    while not keeper.children():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    both = [keeper, *keeper.children()]
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(both, timeout=20)
    assert not alive


@pytest.mark.slow
@pytest.mark.needs("vllm")
@pytest.mark.timeout(600)
def test_adapters_are_served_on_their_model(tmp_path: Path) -> None:
    base, adapters = tmp_path / "base", tmp_path / "adapters"
    build_from_scratch([("1 2>3;", "1+2=3;")], CHARACTERS, InitializationSettings(), SHAPE, seed=0, device="cpu").save(
        base
    )
    solutions = [Solution("", "1 2>3;", tuple(range(3, 3 + length)), 1.0, 1.0) for length in range(2, 10)]
    finetune(base, solutions, KEEPING, seed=0, device="cpu", max_new_tokens=40).save(adapters)
    greedy = [Request(prompt=f"{n} 2>3;", temperature=0, max_new_tokens=20) for n in range(30)]
    ours, engine = open_engine(adapters, PolicySettings()), open_engine(adapters, SERVED)
    answers = []
    for each in (ours, engine):
        for key, request in enumerate(greedy):
            each.add(key, request)
        answers.append(dict(drain(each)))
    engine.close()
    assert sum(answers[0][key].token_ids == answers[1][key].token_ids for key in range(30)) >= 28
