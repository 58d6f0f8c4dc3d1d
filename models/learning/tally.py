"""Sums over the parts of a step, whichever process computes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from models.learning.batches import Batch
from models.learning.objective import Loss


@dataclass(kw_only=True)
class Tally:
    """`Tally(size=120.0)`, to which the losses of a step's parts are added."""

    size: float
    """What the sums of the whole step are divided by."""
    loss: float = 0.0
    num_examples: int = 0
    num_tokens: int = 0
    measured: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Totals and their numbers."""

    def add(self, loss: Loss, batch: Batch) -> None:
        """Count a part in."""
        self.loss += loss.total.item()
        self.num_examples += len(batch.names)
        self.num_tokens += batch.num_tokens
        for name, (total, number) in loss.measured.items():
            self._measure(name, float(total), float(number))

    def means(self) -> dict[str, float]:
        """Of what the objective measured."""
        return {name: total / number for name, (total, number) in self.measured.items()}

    @classmethod
    def merged(cls, tallies: Sequence["Tally"]) -> "Tally":
        """The sum of several processes' tallies of one step."""
        whole = cls(size=tallies[0].size)
        for tally in tallies:
            whole.loss += tally.loss
            whole.num_examples += tally.num_examples
            whole.num_tokens += tally.num_tokens
            for name, (total, number) in tally.measured.items():
                whole._measure(name, total, number)
        return whole

    def _measure(self, name: str, total: float, number: float) -> None:
        before = self.measured.get(name, (0.0, 0.0))
        self.measured[name] = (before[0] + total, before[1] + number)
