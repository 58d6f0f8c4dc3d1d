"""An engine that remembers what it was asked, and the bare engine that is asked the same again."""

from collections.abc import Sequence
from time import perf_counter

from models.policy.protocol import Completion, Request
from models.policy.transformers_engine import TransformersEngine

Wave = list[Request]


class Recorder:
    """An engine that remembers what each of its steps was given."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine
        self.given: dict[int, Request] = {}
        self.waves: list[Wave] = []
        self.num_tokens = 0

    def add(self, key: int, request: Request) -> None:
        """Queue a request."""
        self.given[key] = request
        self.engine.add(key, request)

    def step(self) -> list[tuple[int, Completion]]:
        """One wave."""
        answered = self.engine.step()
        self.waves.append([self.given.pop(key) for key, _ in answered])
        self.num_tokens += sum(len(completion.token_ids) for _, completion in answered)
        return answered

    def close(self) -> None:
        """Nothing of its own."""


def replay(engine: TransformersEngine, waves: Sequence[Wave]) -> tuple[float, int]:
    """Seconds and tokens of the same waves with nobody behind them."""
    started, num_tokens = perf_counter(), 0
    for wave in waves:
        for key, request in enumerate(wave):
            engine.add(key, request)
        answered = engine.step()
        assert len(answered) == len(wave), "an engine with less memory for prefixes divides a wave otherwise"
        num_tokens += sum(len(completion.token_ids) for _, completion in answered)
    return perf_counter() - started, num_tokens
