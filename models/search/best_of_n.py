"""Best-of-N: N independent attempts at a problem. At N = 1 and temperature 0 it is greedy decoding."""

from dataclasses import dataclass

from models.policy.protocol import Completion, Request
from models.search.protocol import Found, Search, Task, complete, value

WAVE = 4
"""Attempts that are made before a look at how many are right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BestOfN:
    """`BestOfN(samples=8, temperature=1.0)`; all attempts are returned, for someone else to judge."""

    samples: int
    temperature: float
    enough: int = 0
    """Right attempts, by the guide, that end the search; 0 asks no guide and makes all."""

    @property
    def label(self) -> str:
        """`best_of_n(8)`, `best_of_n(16, enough=2)`, or `greedy`."""
        enough = f", enough={self.enough}" if self.enough else ""
        return f"best_of_n({self.samples}{enough})" if self.temperature else "greedy"

    def search(self, task: Task) -> Search:
        """Ask for all attempts at once, or wave by wave. Sample i does not depend on how many there are."""
        attempts: list[Completion] = []
        num_right = 0
        while len(attempts) < self.samples:
            last = min(self.samples, len(attempts) + WAVE) if self.enough else self.samples
            wave = yield from complete([self._request(task, sample) for sample in range(len(attempts), last)])
            attempts += wave
            if self.enough and len(attempts) < self.samples:
                num_right += (yield from value(wave)).count(1.0)
                if num_right >= self.enough:
                    break
        return Found(attempts)

    def _request(self, task: Task, sample: int) -> Request:
        return Request(
            prompt=task.prompt,
            seed=task.seed + sample,
            temperature=self.temperature,
            max_new_tokens=task.max_new_tokens,
        )


GREEDY = BestOfN(samples=1, temperature=0.0)
