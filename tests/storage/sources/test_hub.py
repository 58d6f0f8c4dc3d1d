"""Problems of a dataset on the hub: fetched once, read from the cache ever after, and told apart where they cannot be.

A hub of our own answers on loopback as the real one does, and its real client asks it, in processes of their own.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import polars as pl
import pytest

from storage.sources.hub import HubProblems, hub_maker

SHA = "a" * 40
ONLINE = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
ASK = """
import json, sys
from storage.sources.hub import HubProblems, hub_maker
try:
    maker = hub_maker(HubProblems(**json.loads(sys.argv[1])))
    held_out = maker.held_out()
    print(json.dumps({
        "name": maker.name,
        "train": sorted((problem.question, problem.answer) for problem in maker.draws()),
        "held_out": None if held_out is None else sorted(problem.question for problem in held_out),
    }))
except ValueError as error:
    print(json.dumps({"error": str(error)}))
"""


class Handler(BaseHTTPRequestHandler):
    """The hub's answers to whoever asks for a dataset's converted files."""

    files: dict[str, bytes]
    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        path = unquote(self.path)
        self.asked.append(path)
        if path.startswith("/api/datasets/made/sums/revision/refs/convert/parquet"):
            siblings = [{"rfilename": name} for name in self.files]
            self.reply(json.dumps({"id": "made/sums", "sha": SHA, "siblings": siblings}).encode(), with_body)
        elif path.startswith(f"/api/datasets/made/sums/tree/{SHA}"):
            tree = [{"type": "file", "path": n, "size": len(of), "oid": SHA} for n, of in self.files.items()]
            self.reply(json.dumps(tree).encode(), with_body)
        elif path.startswith(prefix := f"/datasets/made/sums/resolve/{SHA}/") and path[len(prefix) :] in self.files:
            self.reply(self.files[path[len(prefix) :]], with_body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def reply(self, body: bytes, with_body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", SHA)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Its address, and what was asked of it."""
    asked: list[str] = []
    handler = type("Hub", (Handler,), {"files": files, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def table(*numbers: int) -> bytes:
    rows = {"question": [f"{n} + {n}?" for n in numbers], "answer": [f"so #### {2 * n}" for n in numbers]}
    pl.DataFrame(rows).write_parquet(file := BytesIO())
    return file.getvalue()


FILES = {
    "main/train/0000.parquet": table(1, 2),
    "main/train/0001.parquet": table(3),
    "main/test/0000.parquet": table(4, 3),
    "other/train/0000.parquet": table(9),
}


def ask(endpoint: str, cache: Path, **settings: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps({"dataset": "made/sums", "subset": "main"} | settings)],
        capture_output=True,
        text=True,
        env=os.environ | ONLINE | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache)},
        cwd=Path(__file__).parents[3],
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_a_dataset_is_fetched_once_and_what_benchmarks_never_trains(tmp_path: Path) -> None:
    with hub(FILES) as (endpoint, asked):
        first = ask(endpoint, tmp_path, benchmark_split="test")
        assert first == {
            "name": "hub:made/sums",
            "train": [["1 + 1?", "2"], ["2 + 2?", "4"]],
            "held_out": ["3 + 3?", "4 + 4?"],
        }
        assert not any("other" in path for path in asked), "what nobody wants is not fetched"
        asked.clear()
        assert ask(endpoint, tmp_path, benchmark_split="test") == first
        assert not any("made/sums" in path for path in asked)
    assert ask(endpoint, tmp_path, benchmark_split="test") == first, "the cache needs no hub"


def test_a_split_of_which_a_part_came_is_fetched_to_its_end(tmp_path: Path) -> None:
    with hub(FILES) as (endpoint, _):
        whole = ask(endpoint, tmp_path)
        (folder,) = {path.parent for path in tmp_path.rglob("train/*.parquet")}
        (folder / ".complete").unlink()
        (folder / "0001.parquet").unlink()
        assert ask(endpoint, tmp_path) == whole
    (folder / ".complete").unlink()
    assert ask(endpoint, tmp_path) == whole, "what people fetched themselves is taken where nobody can be asked"


def test_where_a_split_or_a_dataset_is_not_there_what_is_there_is_told(tmp_path: Path) -> None:
    with hub(FILES) as (endpoint, _):
        assert ask(endpoint, tmp_path, split="validation") == {
            "error": "made/sums has no split 'validation' of a subset 'main'; it has main (test, train), other (train)."
        }
        assert ask(endpoint, tmp_path, dataset="made/nothing") == {
            "error": "the hub has no dataset 'made/nothing', or it is not for everyone: check its name."
        }


def test_without_a_network_the_command_that_would_fetch_it_is_named(tmp_path: Path) -> None:
    told = str(ask("http://127.0.0.1:9", tmp_path)["error"])
    assert told.startswith(
        "the dataset 'made/sums' is not on this machine and cannot be fetched from http://127.0.0.1:9"
    )
    assert "hf download made/sums --repo-type dataset --revision refs/convert/parquet" in told


def test_a_split_is_no_benchmark_of_itself() -> None:
    with pytest.raises(ValueError, match="split and benchmark_split are both 'train'"):
        HubProblems(dataset="made/sums", benchmark_split="train")


def test_making_problems_of_it_asks_nobody() -> None:
    assert hub_maker(HubProblems(dataset="made/sums")).parse("1 + 1?").source == "hub:made/sums"
