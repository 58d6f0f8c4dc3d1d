"""Best-of-N: N independent attempts at a problem. At N = 1 and temperature 0 it is greedy decoding."""

from dataclasses import dataclass

from models.policy.protocol import Request
from models.search.protocol import Search, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class BestOfN:
    """`BestOfN(samples=8, temperature=1.0)`; all attempts are returned, for someone else to judge."""

    samples: int
    temperature: float

    @property
    def label(self) -> str:
        """`best_of_n(8)`, or `greedy`."""
        return f"best_of_n({self.samples})" if self.temperature else "greedy"

    def search(self, task: Task) -> Search:
        """Ask for all attempts at once. Sample i does not depend on how many there are."""
        completions = yield [
            Request(
                prompt=task.prompt,
                seed=task.seed + sample,
                temperature=self.temperature,
                max_new_tokens=task.max_new_tokens,
            )
            for sample in range(self.samples)
        ]
        return list(completions)


GREEDY = BestOfN(samples=1, temperature=0.0)
