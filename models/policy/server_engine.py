"""An engine behind HTTP: many requests in flight at any server that speaks OpenAI's completions and returns token ids.

vLLM does (`return_token_ids`), with log-probabilities of the temperature that sampled where it was started with
`--logprobs-mode processed_logprobs`. A connection that drops, a server that is busy (429, 5xx) or silent: the same
request is sent again, later and later, and an answer is taken once. Siblings are drawn independently.
"""

import asyncio
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any

import httpx
from transformers import PreTrainedTokenizerBase

from models.policy.codec import Codec
from models.policy.find import PolicyError
from models.policy.protocol import Completion, Request
from models.policy.remote import Row, finish, receive, spread
from models.policy.serving import authorized

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 10.0
BUSY = {408, 409, 425, 429}
SHOWN_CHARS = 300


class ServerEngine:
    """`ServerEngine("http://127.0.0.1:8000/v1", "policy", tokenizer, key="", max_rows=256, …)`."""

    def __init__(
        self,
        url: str,
        model: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        key: str,
        max_rows: int,
        timeout_s: float,
        patience_s: float,
        revive: Callable[[], None] = lambda: None,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        """`revive` is called where nothing answers, `stop` when the engine is closed."""
        self.codec = Codec(tokenizer)
        self.num_computed_tokens = 0
        self._model, self._patience_s, self._revive, self._stop = model, patience_s, revive, stop
        self._done: queue.SimpleQueue[Row | BaseException] = queue.SimpleQueue()
        self._num_waiting = 0
        self._slots = asyncio.Semaphore(max_rows)
        self._client = httpx.AsyncClient(
            base_url=url,
            headers=authorized(key),
            timeout=httpx.Timeout(timeout_s, pool=None),
            limits=httpx.Limits(max_connections=max_rows, max_keepalive_connections=max_rows),
            trust_env=False,  # a proxy is not asked for a server on a private network
        )
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="requests", daemon=True)
        self._thread.start()
        self.context: int | None = self._wait(self._read_context())

    def add(self, key: int, request: Request) -> None:
        """Send a request. One with no token to start from, or no room for an answer, completes as an error."""
        row = Row.of(key, request, self.codec.encode(request.prompt), self.context)
        self._num_waiting += 1
        if row.goes_on:
            asyncio.run_coroutine_threadsafe(self._answer(row), self._loop)
        else:
            self._done.put(row)

    def step(self) -> list[tuple[int, Completion]]:
        """What was answered, as soon as something is. Raises PolicyError where the server does not answer at all."""
        finished: list[Row] = []
        while self._num_waiting and (not finished or not self._done.empty()):
            row = self._done.get()
            self._num_waiting -= 1
            if isinstance(row, BaseException):
                raise row
            finished.append(row)
        return [(row.key, finish(row, self.codec)) for row in finished]

    def close(self) -> None:
        """Drop what is in flight, and end a server of our own."""
        self._wait(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._stop()

    async def _hang_up(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    def _wait(self, coroutine: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result()

    async def _read_context(self) -> int | None:
        models = (await self._ask("GET", "/models", None))["data"]
        of_ours = next((each for each in models if each["id"] == self._model), None)
        if of_ours is None:
            raise PolicyError(f"the server at {self._client.base_url} has no model {self._model!r}")
        of_base = (each.get("max_model_len") for each in models)  # adapters do not say it, their model does
        context: int | None = of_ours.get("max_model_len") or next(filter(None, of_base), None)
        return context

    async def _answer(self, row: Row) -> None:
        try:
            async with self._slots:
                while row.goes_on:
                    receive(row, self.codec, **self._read(await self._ask("POST", "/completions", self._body(row))))
            self._done.put(row)
        except Exception as error:
            self._done.put(error)

    def _body(self, row: Row) -> dict[str, Any]:
        return {
            "model": self._model,
            "prompt": list(row.tokens_so_far),
            "temperature": row.request.temperature,
            "max_tokens": row.next_limit,
            "seed": spread(row),
            "logprobs": 0,
            "top_p": 1.0,  # else a server may take what the model's generation_config.json says
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "stop": row.next_stop or None,
            "include_stop_str_in_output": True,
            "return_token_ids": True,
        }

    def _read(self, answer: dict[str, Any]) -> dict[str, Any]:
        (choice,) = answer["choices"]
        if choice.get("token_ids") is None or choice.get("logprobs") is None:
            raise PolicyError(
                f"the server at {self._client.base_url} returns no token ids with their log-probabilities, which "
                "learning needs: use one that does, as vLLM"
            )
        usage = answer.get("usage") or {}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        self.num_computed_tokens += usage.get("total_tokens", 0) - cached
        is_end = choice["finish_reason"] == "stop" and not isinstance(choice.get("stop_reason"), str)
        return {
            "tokens": choice["token_ids"],
            "logprobs": choice["logprobs"]["token_logprobs"],
            "is_end": is_end,
            "is_error": choice["finish_reason"] not in ("stop", "length"),
        }

    async def _ask(self, method: str, path: str, body: object) -> Any:
        """What the server answers in the end."""
        wait_s, deadline = FIRST_WAIT_S, 0.0
        while True:
            try:
                answer = await self._client.request(method, path, json=body)
                told, is_gone = f"{answer.status_code} {answer.text[:SHOWN_CHARS]}", False
                if answer.is_success and not was_aborted(found := answer.json()):
                    return found
                if not answer.is_success and answer.status_code < 500 and answer.status_code not in BUSY:
                    raise PolicyError(f"the server at {self._client.base_url} refuses a request: {told}")
            except (httpx.HTTPError, ValueError) as error:
                if isinstance(error, PolicyError):
                    raise
                told, is_gone = f"{type(error).__name__} {error}", True
            failed_at = time.monotonic()
            deadline = deadline or failed_at + self._patience_s
            if failed_at > deadline:
                raise PolicyError(
                    f"the server at {self._client.base_url} did not answer for {self._patience_s:.0f} s: {told}"
                )
            if is_gone:
                await asyncio.to_thread(self._revive)
                deadline += time.monotonic() - failed_at  # what it takes to start is no silence
            await asyncio.sleep(wait_s)
            wait_s = min(LONGEST_WAIT_S, 2 * wait_s)


def was_aborted(answer: Any) -> bool:
    """Whether a server ended an answer before its end, as one does that is told to shut down."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    return any(choice.get("finish_reason") == "abort" for choice in choices or ())
