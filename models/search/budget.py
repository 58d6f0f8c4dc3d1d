"""What a search may spend on a problem: no token and no node more is asked for, and nothing begins after its time."""

import re
from dataclasses import dataclass, field
from time import monotonic

from models.policy.protocol import Completion

ROOM = 2
"""Room that a continuation is given, in lengths of the longest of its kind so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """`Budget(tokens=600)`; what is 0 does not bound."""

    tokens: int = 0
    """Generated, whether or not they are kept."""
    nodes: int = 0
    """Continuations that were asked for."""
    seconds: float = 0.0
    """After which no continuation begins; one that has begun is finished."""

    def __post_init__(self) -> None:
        if min(self.tokens, self.nodes, self.seconds) < 0 or not (self.tokens or self.nodes or self.seconds):
            raise ValueError(f"{self} bounds nothing; expected tokens, nodes or seconds above 0")

    def __str__(self) -> str:
        """In words: `600 tokens, 2 s`."""
        bounds = (f"{self.tokens} tokens", f"{self.nodes} nodes", f"{self.seconds:g} s")
        amounts = (self.tokens, self.nodes, self.seconds)
        return ", ".join(words for words, amount in zip(bounds, amounts, strict=True) if amount)

    def open(self) -> "Account":
        """An account with nothing spent."""
        return Account(self)


BOUND = re.compile(r"\s*(?P<amount>\d+(\.\d+)?)\s*(?P<unit>tokens?|nodes?|seconds?|s|)\s*")
UNITS = {"": "tokens", "t": "tokens", "n": "nodes", "s": "seconds"}


def read_budget(text: str) -> Budget:
    """What `600`, `40 nodes` or `600 tokens, 2 s` says. Raises ValueError."""
    bounds: dict[str, float] = {}
    for part in text.split(","):
        match = BOUND.fullmatch(part)
        unit = UNITS[match["unit"][:1]] if match else ""
        if not match or unit in bounds or (unit != "seconds" and "." in match["amount"]):
            raise ValueError(f"the budget is {text!r}; expected tokens, nodes or seconds, as '600 tokens, 2 s'")
        bounds[unit] = float(match["amount"])
    return Budget(
        tokens=int(bounds.get("tokens", 0)), nodes=int(bounds.get("nodes", 0)), seconds=bounds.get("seconds", 0.0)
    )


@dataclass(slots=True)
class Account:
    """What one search has spent."""

    budget: Budget
    tokens: int = 0
    nodes: int = 0
    started: float = field(default_factory=monotonic)
    longest: dict[int, int] = field(default_factory=dict)
    """Tokens of the longest continuation so far, by the number of steps that it was asked for."""

    def afford(self, num_wanted: int, max_new_tokens: int, max_steps: int = 0) -> tuple[int, int]:
        """How many of the wanted continuations may be asked for at once, and the most tokens of each; (0, 0): no more.

        All of them together keep the budget however long they get. Each has room for twice the longest of its kind,
        or for all it may write while none is known: fewer at once, rather than many that are cut off.
        """
        budget, num = self.budget, num_wanted
        if budget.seconds and monotonic() - self.started >= budget.seconds:
            return 0, 0
        if budget.nodes:
            num = min(num, budget.nodes - self.nodes)
        if budget.tokens:
            left = budget.tokens - self.tokens
            room = min(max_new_tokens, ROOM * self.longest.get(max_steps, max_new_tokens))
            num = min(num, max(1, left // max(1, room))) if left else 0
            max_new_tokens = min(max_new_tokens, left // num) if num else 0
        return num, max_new_tokens if num else 0

    def pay(self, completions: list[Completion], max_steps: int = 0) -> None:
        """Write off what was generated."""
        lengths = [len(completion.token_ids) for completion in completions]
        self.nodes += len(lengths)
        self.tokens += sum(lengths)
        self.longest[max_steps] = max(self.longest.get(max_steps, 0), *lengths)
