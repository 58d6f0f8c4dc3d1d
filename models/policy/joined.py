"""A vLLM server on another machine, by its keeper (keeper.py), which has it serve the checkpoint that is asked for."""

import time
from pathlib import Path
from threading import Event, Lock
from urllib.parse import urlsplit

import httpx

from models.policy.find import PolicyError
from models.policy.serving import authorized

LOOK_S = 1.0
ANSWER_TIMEOUT_S = 20.0
"""For one answer; a server takes longer to start, and is asked for again."""
SHOWN_CHARS = 500


class Joined:
    """`Joined("http://gpu1:8001", folder, key="…", patience_s=600)` serves that folder's policy from now on."""

    def __init__(self, keeper: str, folder: Path, *, key: str, patience_s: float) -> None:
        """Have it served. Raises PolicyError where it is not."""
        self._keeper, self._folder = keeper.rstrip("/"), folder.absolute()
        self.key, self._patience_s = key, patience_s
        self._served_at = 0.0
        self._port = 0
        self._lock, self._is_stopped = Lock(), Event()
        self.revive()

    @property
    def url(self) -> str:
        """Where the server answers."""
        address = urlsplit(self._keeper)
        return f"{address.scheme}://{address.hostname}:{self._port}/v1"

    def revive(self) -> None:
        """Have it served, also where it was; once for all who ask meanwhile. Raises PolicyError."""
        asked_at = time.monotonic()
        with self._lock:
            if self._served_at < asked_at:
                self._port = self._serve(asked_at + self._patience_s)
                self._served_at = time.monotonic()

    def stop(self) -> None:
        """Ask for nothing more; the server is the keeper's."""
        self._is_stopped.set()

    def _serve(self, deadline: float) -> int:
        """The port, as soon as the keeper says so."""
        while not self._is_stopped.is_set():
            try:
                answer = httpx.post(
                    f"{self._keeper}/serve",
                    json={"folder": str(self._folder)},
                    headers=authorized(self.key),
                    timeout=ANSWER_TIMEOUT_S,
                    trust_env=False,
                )
                if answer.is_success:
                    return int(answer.json()["port"])
                told = f"{answer.status_code} {answer.text[:SHOWN_CHARS]}"
                if answer.is_client_error:
                    raise PolicyError(f"the keeper at {self._keeper} serves no {self._folder.name}: {told}")
            except httpx.HTTPError as error:
                told = f"{type(error).__name__} {error}"
            if time.monotonic() > deadline:
                raise PolicyError(f"the keeper at {self._keeper} did not answer for {self._patience_s:.0f} s: {told}")
            self._is_stopped.wait(LOOK_S)
        raise PolicyError(f"the keeper at {self._keeper} is asked no more")
