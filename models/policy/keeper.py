"""Keeps a vLLM server for wheels on other machines, and has it serve whichever checkpoint it is told.

    python -m models.policy.keeper --folder /shared/home --serve "vllm serve --data-parallel-size 4"

It needs this package and vLLM, a disk on which checkpoints have the path that they have for the wheel, and in the
environment the key that both know, FLYWHEEL_SERVER_KEY. The server is started anew for each checkpoint: vLLM's own
reloading in place keeps tied embeddings, and on a CPU matrices, of the weights before.
"""

import argparse
import json
import os
import secrets
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from models.policy.find import PolicyError
from models.policy.serving import Serving, authorized

KEY_VARIABLE = "FLYWHEEL_SERVER_KEY"
"""Of the environment."""
MOST_BYTES = 10_000
ANSWER_S = 10.0
"""In which who asks is answered, be it that the server is still starting."""


Stamp = tuple[Path, int, int]


def stamp_of(folder: Path) -> Stamp:
    """A checkpoint and its making: one that was made anew has the same name, and may have other weights."""
    status = folder.stat()
    return folder, status.st_ino, status.st_mtime_ns


class Keeper:
    """`Keeper(Path("/shared/home"), "vllm serve", host="0.0.0.0", port=8000, key=…).serve(folder)`."""

    def __init__(self, root: Path, command: str, *, host: str, port: int, key: str) -> None:
        self.key, self.port = key, port
        self._root, self._command, self._host = root.resolve(), command, host
        self._serving: Serving | None = None
        self._served: Stamp | None = None
        self._start: Future[Serving] = Future()
        """Of the server of that folder."""
        self._lock, self._turn = Lock(), Lock()

    def serve(self, folder: Path) -> bool:
        """Have a folder's policy served; says whether it is by now. Raises PolicyError or OSError, once a start."""
        with self._lock:
            if not (folder.is_dir() and folder.resolve().is_relative_to(self._root)):
                raise PolicyError(f"there is no checkpoint {folder} in {self._root}, as this machine sees it")
            if self._served != (stamp := stamp_of(folder)) or self._has_died():
                self._served, self._start = stamp, self._begin(folder)
            start = self._start
        try:
            start.result(ANSWER_S)
        except (NotYet, CancelledError):
            return False
        except Exception:
            with self._lock:
                if self._start is start:
                    self._served = None  # who asks again has it tried again
            raise
        return True

    def stop(self) -> None:
        """End the server."""
        if self._serving:
            self._serving.stop()
            self._serving = None

    def _has_died(self) -> bool:
        """Whether the server that was started is there no more; one that never was is told by its start."""
        return self._start.done() and not self._start.exception() and not self._start.result().is_alive

    def _begin(self, folder: Path) -> "Future[Serving]":
        """Start a server in the place of the one before, beside whoever asks."""
        begun: Future[Serving] = Future()

        def start() -> None:
            try:
                with self._turn:
                    with self._lock:
                        if self._start is not begun and begun.cancel():  # another was asked for meanwhile
                            return
                    self.stop()
                    self._serving = Serving(folder, self._command, [], host=self._host, port=self.port, key=self.key)
                    begun.set_result(self._serving)
            except BaseException as error:
                begun.set_exception(error)

        Thread(target=start, daemon=True).start()
        return begun


def handler_of(keeper: Keeper) -> type[BaseHTTPRequestHandler]:
    """Answers POST /serve {"folder": …} of whoever shows the key, and GET /health of anyone."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(HTTPStatus.OK if self.path == "/health" else HTTPStatus.NOT_FOUND, {})

        def do_POST(self) -> None:
            shown = self.headers.get("Authorization", "")
            if not secrets.compare_digest(shown.encode(), authorized(keeper.key)["Authorization"].encode()):
                return self._reply(HTTPStatus.UNAUTHORIZED, {"error": f"the key is not this keeper's {KEY_VARIABLE}"})
            try:
                length = int(self.headers.get("Content-Length", 0))
                asked = json.loads(self.rfile.read(max(0, min(length, MOST_BYTES))))
                is_served = keeper.serve(Path(asked["folder"]))
            except (ValueError, KeyError, TypeError, OSError) as error:  # a PolicyError is the first
                return self._reply(HTTPStatus.CONFLICT, {"error": str(error)})
            if not is_served:
                return self._reply(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "the server is starting"})
            self._reply(HTTPStatus.OK, {"port": keeper.port})

        def _reply(self, status: HTTPStatus, body: Mapping[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(ConnectionError):  # who asked has asked again meanwhile
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    return Handler


def main() -> None:
    """Keep a server until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="What holds the checkpoints: the wheel's home.")
    parser.add_argument("--serve", default="vllm serve", help="The command of the server, with options of its own.")
    parser.add_argument("--host", default="127.0.0.1", help="Where to listen; an address of a private network.")
    parser.add_argument("--port", type=int, default=8001, help="Of the keeper; the server has the one before.")
    arguments = parser.parse_args()
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        raise SystemExit(f"{KEY_VARIABLE} is not set: make one, and give it to the wheel as well")
    keeper = Keeper(arguments.folder, arguments.serve, host=arguments.host, port=arguments.port - 1, key=key)
    with ThreadingHTTPServer((arguments.host, arguments.port), handler_of(keeper)) as server:
        print(
            f"keeps a server for the checkpoints in {arguments.folder}, at {arguments.host}:{arguments.port}",
            flush=True,
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            keeper.stop()


if __name__ == "__main__":
    main()
