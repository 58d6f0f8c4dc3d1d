"""A vLLM server that others started, on a disk that it shares with us: told to take the weights of a folder.

That is what its development mode is for (`VLLM_SERVER_DEV_MODE=1`), which a private network alone should reach. A
server that was started anew has its first weights again, so that whatever may have ended it is a reason to tell it.
"""

import time
from pathlib import Path
from threading import Lock

import httpx

from models.policy.find import PolicyError
from models.policy.serving import authorized

KEY_VARIABLE = "FLYWHEEL_SERVER_KEY"
"""Of the environment: the key of servers that want one."""
LOOK_S = 1.0
LOAD_TIMEOUT_S = 600.0
SHOWN_CHARS = 300


class Joined:
    """`Joined("http://gpu1:8000", folder, key="", patience_s=600)` serves that folder's policy from now on."""

    def __init__(self, url: str, folder: Path, *, key: str, patience_s: float) -> None:
        """Have it take the weights. Raises PolicyError where it does not."""
        self._root = url.rstrip("/").removesuffix("/v1")
        self._folder, self._key, self._patience_s = folder.absolute(), key, patience_s
        self._taken_at = 0.0
        self._lock = Lock()
        self.revive()
        self.name = self._find_name()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"{self._root}/v1"

    def revive(self) -> None:
        """Have it take the weights anew, once for all who ask meanwhile, as soon as it answers. Raises PolicyError."""
        asked_at = time.monotonic()
        with self._lock:
            if self._taken_at < asked_at:
                self._take(asked_at + self._patience_s)
                self._taken_at = time.monotonic()

    def _take(self, deadline: float) -> None:
        wanted = {"method": "reload_weights", "kwargs": {"weights_path": str(self._folder)}}
        self._post("collective_rpc", wanted, deadline)
        self._post("reset_prefix_cache", {}, deadline)

    def _post(self, what: str, body: object, deadline: float) -> None:
        while True:
            try:
                answer = self._ask("POST", f"{self._root}/{what}", body)
                if answer.is_success:
                    return
                if answer.status_code == httpx.codes.NOT_FOUND:
                    raise PolicyError(
                        f"the server at {self._root} takes no new weights: start it with VLLM_SERVER_DEV_MODE=1, "
                        "on a private network (docs/engines.md)"
                    )
                told = f"{answer.status_code} {answer.text[:SHOWN_CHARS]}"
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    raise PolicyError(
                        f"the server at {self._root} cannot take the weights in {self._folder}, which it must see "
                        f"under the same path: {told}"
                    )
            except httpx.HTTPError as error:
                told = f"{type(error).__name__} {error}"
            if time.monotonic() > deadline:
                raise PolicyError(f"the server at {self._root} did not answer for {self._patience_s:.0f} s: {told}")
            time.sleep(LOOK_S)

    def _find_name(self) -> str:
        try:
            names = [model["id"] for model in self._ask("GET", f"{self.url}/models").json()["data"]]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise PolicyError(f"the server at {self._root} does not say what it serves: {error}") from error
        if len(names) != 1:
            raise PolicyError(f"the server at {self._root} serves {len(names)} models; expected the policy alone")
        return str(names[0])

    def _ask(self, method: str, url: str, body: object = None) -> httpx.Response:
        return httpx.request(
            method, url, json=body, headers=authorized(self._key), timeout=LOAD_TIMEOUT_S, trust_env=False
        )
