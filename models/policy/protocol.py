"""What an engine is to the rest of the house: text and token ids in, continuations out.

An engine is fed with `add` and emptied with `step`, so that continuous batching
fits behind it as well as one big batch. It knows nothing of problems or search.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

Boundary = str | int
"""Where a step ends: after the token that completes this text, or after so many tokens; "" nowhere."""


class EngineError(RuntimeError):
    """An engine that has ended in the midst of its work; a new one may do."""


class Known(NamedTuple):
    """A continuation that was written before, with the log-probability of each token as it was sampled."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Continue `prompt` followed by the tokens of `prefix`.

    `Request(prompt="4 7 26>15;", seed=7, temperature=1.0, max_new_tokens=64)`
    """

    prompt: str
    prefix: tuple[int, ...] = ()
    seed: int = 0
    """Keys the sampling noise: equal requests with equal seeds get equal noise, whatever their batch."""
    temperature: float = 1.0
    """0 is greedy."""
    max_new_tokens: int = 64
    boundary: Boundary = ""
    """Divides the continuation into steps."""
    max_steps: int = 0
    """Steps after which it stops; 0: it goes on to its end."""
    known: tuple[Known, ...] = ()
    """Continuations that are not to be written again: it is drawn as by the policy, but without replacement.
    An engine that cannot may leave this out; then some are."""


class Piece(NamedTuple):
    """A step of a completion: `Piece("26-4=22,7;", 10)`."""

    text: str
    num_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What the policy wrote: `Completion(text="26-4=22,7;", token_ids=[…], logprobs=[…], stop_reason="end", …)`."""

    text: str
    token_ids: list[int]
    """Generated tokens, the end mark included."""
    logprobs: list[float]
    """Log-probability of each, at the request's temperature, at 1 where that is greedy (top-p 1, top-k off)."""
    prompt_tokens: int
    stop_reason: str
    """end; step, where it has the steps that were asked for; length, also where the model's context is full; or error,
    with no text and no tokens."""
    seed: int = 0
    """The request's."""
    pieces: list[Piece] = field(default_factory=list)
    """Its steps, where a boundary was given; the last may be unfinished, or an end mark alone, with no text."""


class Engine(Protocol):
    """Runs requests in batches of its own choosing."""

    def add(self, key: int, request: Request) -> None:
        """Queue a request under a key that is unique among those in flight."""
        ...

    def step(self) -> list[tuple[int, Completion]]:
        """Work for a while; return what finished, empty only when nothing is queued."""
        ...

    def close(self) -> None:
        """Give back what it holds; it is not used again."""
        ...
