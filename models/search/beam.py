"""Beam search and DVTS: a few unfinished answers go on step by step, and the most valued are kept.

Beam search keeps the best `width` of all their continuations (Snell et al. 2024, 2408.03314).
Diverse verifier tree search splits the same work into `width` subtrees, which begin with
different steps, and keeps the best continuation of each (Beeching, Tunstall, Rush 2024).
A step's value is the guide's word on it, or the mean value of rollouts from it to the end
(Monte Carlo, as Math-Shepherd estimates it: Wang et al. 2024, 2312.08935).
Where budget is left after the beams have ended, others begin, with other noise, in the same tree.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from models.policy.protocol import Boundary, Request
from models.search.budget import Account, Budget
from models.search.protocol import Continue, Search, Task, Value, complete, harvest, value
from models.search.tree import Node

Worths = dict[Node, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Beam:
    """`Beam(budget=Budget(tokens=600), boundary=";", width=4, expansion=4)`."""

    budget: Budget
    boundary: Boundary
    temperature: float = 1.0
    width: int = 4
    """Unfinished answers that are kept at each depth."""
    expansion: int = 4
    """Continuations that are asked for of each."""
    rollouts: int = 0
    """Rollouts from each step whose mean value is its own; 0: the guide's word is."""
    is_diverse: bool = False
    """Whether each of the `width` beams keeps a continuation of its own (DVTS)."""
    enough: int = 1
    """Right answers, by the guide, that end the search; 0: the budget alone does."""

    @property
    def label(self) -> str:
        """`beam(4, 600 tokens)` or `dvts(4, 600 tokens)`."""
        return f"{'dvts' if self.is_diverse else 'beam'}({self.width}, {self.budget})"

    def search(self, task: Task) -> Search:
        """Beams from the root to their ends, again and again until the budget is spent."""
        root, account, leaves = task.root or Node(), self.budget.open(), dict[Node, None]()
        num_right = prompt_tokens = 0
        beams: list[Node] = []
        while not root.is_closed and not (self.enough and num_right >= self.enough):
            beams = beams or [root]
            num, limit = account.afford(*self._want(beams, task))
            if not num:
                break
            parents = [beam for beam in beams for _ in range(self._share(beams))][:num]
            grown, prompt_tokens = yield from self._continue(parents, task, account, limit, max_steps=1)
            worths = yield from _judge(grown, task.seed, prompt_tokens)
            beyond = yield from self._roll_out(worths, task, account)
            ended = {node: worth for node, worth in (worths | beyond).items() if node.stop_reason != "step"}
            num_right += sum(worth == 1.0 for node, worth in ended.items() if node not in leaves)
            leaves |= dict.fromkeys(ended)
            beams = self._keep(grown, worths)
        return harvest(root, leaves, task.seed, prompt_tokens)

    def _want(self, beams: Sequence[Node], task: Task) -> tuple[int, int]:
        """Continuations of these beams, and the most tokens of each."""
        return len(beams) * self._share(beams), task.max_new_tokens - max(len(beam.prefix) for beam in beams)

    def _share(self, beams: Sequence[Node]) -> int:
        """Continuations of each beam; the root's are those of all."""
        return self.expansion * (self.width if beams[0].parent is None else 1)

    def _roll_out(
        self, worths: Worths, task: Task, account: Account
    ) -> Generator[Continue | Value, Sequence[Any], Worths]:
        """Write each open step on to an end a few times, and have it be worth what those ends are, which are given."""
        wanted = [node for node in worths if not node.is_closed for _ in range(self.rollouts)]
        if not wanted:
            return {}
        num, limit = account.afford(len(wanted), task.max_new_tokens - max(len(node.prefix) for node in wanted))
        if not num:
            return {}
        ends, prompt_tokens = yield from self._continue(wanted[:num], task, account, limit, max_steps=0)
        beyond = yield from _judge(ends, task.seed, prompt_tokens)
        of_step: dict[Node, list[float]] = {}
        for node, end in zip(wanted, ends, strict=False):
            of_step.setdefault(node, []).append(beyond[end])
        worths |= {node: fmean(found) for node, found in of_step.items()}
        return beyond

    def _continue(
        self, parents: Sequence[Node], task: Task, account: Account, limit: int, max_steps: int
    ) -> Generator[Continue | Value, Sequence[Any], tuple[list[Node], int]]:
        """Where a continuation of each parent leads, the same node where they wrote the same; the prompt's tokens."""
        completions = yield from complete(
            [
                Request(
                    prompt=task.prompt,
                    prefix=parent.prefix,
                    seed=task.seed + account.nodes + index,
                    temperature=self.temperature,
                    max_new_tokens=limit,
                    boundary=self.boundary,
                    max_steps=max_steps,
                )
                for index, parent in enumerate(parents)
            ]
        )
        account.pay(completions)
        grown = [parent.grow(completion) for parent, completion in zip(parents, completions, strict=True)]
        for node in grown:
            node.cut_off(task.max_new_tokens)
        return grown, completions[0].prompt_tokens

    def _keep(self, grown: Sequence[Node], worths: Worths) -> list[Node]:
        """The beams that go on, of steps that are not at an end."""
        distinct = [node for node in dict.fromkeys(grown) if not node.is_closed]
        ranked = sorted(distinct, key=lambda node: -worths[node])
        if not self.is_diverse:
            return ranked[: self.width]
        if ranked and ranked[0].parent is not None and ranked[0].parent.parent is None:
            groups = [distinct[first :: self.width] for first in range(self.width)]
        else:
            groups = list(_families(distinct).values())
        return [max(group, key=lambda node: worths[node]) for group in groups if group]


def _families(nodes: Sequence[Node]) -> dict[Node | None, list[Node]]:
    families: dict[Node | None, list[Node]] = {}
    for node in nodes:
        families.setdefault(node.parent, []).append(node)
    return families


def _judge(grown: Sequence[Node], seed: int, prompt_tokens: int) -> Generator[Continue | Value, Sequence[Any], Worths]:
    """What each distinct step is worth, backed up to it and all above it; what is worth nothing goes no further."""
    nodes = list(dict.fromkeys(grown))
    worths = yield from value([node.answer(seed, prompt_tokens) for node in nodes])
    for node, worth in zip(nodes, worths, strict=True):
        node.is_closed = node.is_closed or not worth
        node.back_up(worth)
    return dict(zip(nodes, worths, strict=True))
