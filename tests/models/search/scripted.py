"""A policy that is a table: what it may write after each beginning, with probabilities."""

import math
from collections.abc import Mapping
from random import Random

from models.policy.protocol import Completion, Piece, Request

Table = Mapping[str, Mapping[str, float]]
"""A beginning of an answer to its next steps, `$` at the end of one that ends the answer."""


class TablePolicy:
    """An engine of characters: `TablePolicy({"": {"a;": 0.5, "b;": 0.5}, "a;": {"$": 1.0}})`.

    A token is a character, `$` the end mark. A step's log-probability stands on its first token.
    """

    def __init__(self, table: Table, *, max_rows: int = 1000, order: int = 0) -> None:
        self.table = table
        self.max_rows = max_rows
        self.rng = Random(order) if order else None
        self.waiting: list[tuple[int, Request]] = []
        self.num_tokens = 0

    def add(self, key: int, request: Request) -> None:
        self.waiting.append((key, request))

    def step(self) -> list[tuple[int, Completion]]:
        if self.rng:
            self.rng.shuffle(self.waiting)
        batch, self.waiting = self.waiting[: self.max_rows], self.waiting[self.max_rows :]
        return [(key, self.answer(request)) for key, request in batch]

    def answer(self, request: Request) -> Completion:
        """What the table says, drawn by the request's seed and beginning alone."""
        beginning = "".join(map(chr, request.prefix))
        pieces: list[Piece] = []
        tokens: list[int] = []
        logprobs: list[float] = []
        reason = "length"
        while len(tokens) < request.max_new_tokens:
            steps = self.table[beginning]
            if not steps:
                return Completion(text="", token_ids=[], logprobs=[], prompt_tokens=3, stop_reason="error")
            rng = Random(f"{request.prompt} {request.seed} {beginning}")
            known = set() if tokens else {"".join(map(chr, each.token_ids)) for each in request.known}
            left = {name: share for name, share in steps.items() if name not in known} or steps
            step = rng.choices(list(left), list(left.values()))[0][: request.max_new_tokens - len(tokens)]
            beginning += step
            pieces.append(Piece(step.rstrip("$"), len(step)))
            tokens += map(ord, step)
            logprobs += [math.log(self.table_probability(steps, step)), *[0.0] * (len(step) - 1)]
            if step.endswith("$"):
                reason = "end"
                break
            if len(pieces) == request.max_steps and step in steps:
                reason = "step"
                break
        self.num_tokens += len(tokens)
        return Completion(
            text="".join(piece.text for piece in pieces),
            token_ids=tokens,
            logprobs=logprobs,
            prompt_tokens=3,
            stop_reason=reason,
            seed=request.seed,
            pieces=pieces,
        )

    def table_probability(self, steps: Mapping[str, float], step: str) -> float:
        return sum(share for whole, share in steps.items() if whole.startswith(step))
