"""What a search may spend on a problem, kept exactly: no token more is asked for."""

from dataclasses import dataclass, field
from time import monotonic

from models.policy.protocol import Completion


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """`Budget(tokens=600)`; what is 0 does not bound."""

    tokens: int = 0
    """Generated, whether or not they are kept."""
    nodes: int = 0
    """Continuations that were asked for."""
    seconds: float = 0.0

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


@dataclass(slots=True)
class Account:
    """What one search has spent."""

    budget: Budget
    tokens: int = 0
    nodes: int = 0
    started: float = field(default_factory=monotonic)

    def afford(self, num_wanted: int, max_new_tokens: int) -> tuple[int, int]:
        """How many of the wanted continuations may be asked for at once, and the most tokens of each; (0, 0): no more.

        Tokens are shared out evenly beforehand, so that all of them together keep the budget however long they get.
        """
        budget, num = self.budget, num_wanted
        if budget.seconds and monotonic() - self.started >= budget.seconds:
            return 0, 0
        if budget.nodes:
            num = min(num, budget.nodes - self.nodes)
        if budget.tokens:
            left = budget.tokens - self.tokens
            num = min(num, left)
            max_new_tokens = min(max_new_tokens, left // num) if num else 0
        return num, max_new_tokens if num else 0

    def pay(self, completions: list[Completion]) -> None:
        """Write off what was generated."""
        self.nodes += len(completions)
        self.tokens += sum(len(completion.token_ids) for completion in completions)
