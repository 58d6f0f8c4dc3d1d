"""A vLLM server of our own: with a key, ended with this process, and started again where it dies."""

import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import MappingProxyType

import httpx

from models.kept import kept
from models.policy.adapters import find_adapter
from models.policy.find import PolicyError
from models.policy.remote import VLLM_DEFAULTS, lora_slot

LOCALHOST = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::")
START_TIMEOUT_S = 600.0
LOOK_S = 0.2
MOST_RESTARTS = 3
TAIL_CHARS = 600


class Serving:
    """`Serving(folder, "vllm serve", ["--dtype", "float32"])` answers at `.url` for who sends `.key`."""

    def __init__(
        self,
        folder: Path,
        command: str,
        options: Sequence[str],
        *,
        host: str = LOCALHOST,
        port: int = 0,
        key: str = "",
        env: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Start it and wait, with these variables beside ours. Raises PolicyError where it does not serve.

        It listens at `host`, on loopback alone by default, at any port and with a key made here where none is given.
        """
        self.key = key or secrets.token_hex(16)
        self._host = LOCALHOST if host in EVERYWHERE else host
        self._port = port or free_port()
        self._env = env
        words = shlex.split(command)
        place = words.index("serve") + 1 if "serve" in words else len(words)  # vLLM wants the model before any option
        self._command = [
            *words[:place],
            *_served(folder),
            *("--max-model-len", "auto"),  # the model's own, or less where the memory does not hold one such text
            *words[place:],
            *("--host", host, "--port", str(self._port)),
            *("--logprobs-mode", "processed_logprobs", "--enable-prompt-tokens-details"),
            *options,
        ]
        if shutil.which(self._command[0]) is None:
            raise PolicyError(f"there is no command {self._command[0]}, which policy.server names: docs/engines.md")
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115  # as long as the server
        self._process: subprocess.Popen[bytes] | None = None
        self._num_starts = 0
        self._is_stopped = False
        self._lock = Lock()
        try:
            self.revive()
        except BaseException:
            self.stop()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self._host}:{self._port}/v1"

    def revive(self) -> None:
        """Start it if it is not there. Raises PolicyError where it dies again and again."""
        with self._lock:
            if self._process and self._process.poll() is None:
                return
            if self._is_stopped:
                raise PolicyError("the server was ended")
            if self._num_starts > MOST_RESTARTS:
                raise PolicyError(f"the server ended {self._num_starts} times: {self._last_words()}")
            self._num_starts += 1
            self._process = self._start()
            self._wait(self._process)

    def stop(self) -> None:
        """End it and all that it started, also while it starts."""
        self._is_stopped = True
        with self._lock:
            if self._process:
                assert self._process.stdin
                self._process.stdin.close()
                self._process.wait()
            self._log.close()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            kept(self._command),
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            env=VLLM_DEFAULTS | os.environ | {"VLLM_API_KEY": self.key, **self._env},
            start_new_session=True,  # a Ctrl-C is for its parent
        )

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if process.poll() is not None or self._is_stopped or time.monotonic() > deadline:
                raise PolicyError(f"{shlex.join(self._command)} does not serve: {self._last_words()}")
            time.sleep(LOOK_S)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/models", headers=authorized(self.key), trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def _last_words(self) -> str:
        self._log.flush()
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), TAIL_CHARS, max(0, size - TAIL_CHARS)).decode(errors="replace").strip()


def _served(folder: Path) -> list[str]:
    """The policy of a folder by the folder's name; adapters are served on their model."""
    adapter = find_adapter(folder)
    if adapter is None:
        return [str(folder), "--served-model-name", folder.name]
    slot, module = f"--max-lora-rank={lora_slot(adapter.rank)}", json.dumps({"name": folder.name, "path": str(folder)})
    return [str(adapter.base), "--enable-lora", "--max-loras=1", slot, "--lora-modules", module]


def authorized(key: str) -> dict[str, str]:
    """The header that shows a key; none without one."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server((LOCALHOST, 0)) as listener:
        return int(listener.getsockname()[1])
