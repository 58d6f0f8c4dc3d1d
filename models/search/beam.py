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
        """`beam(4x4, 600 tokens)`, or `dvts(4x2, 2 rollouts, 600 tokens)`."""
        rollouts = f"{self.rollouts} rollouts, " if self.rollouts else ""
        return f"{'dvts' if self.is_diverse else 'beam'}({self.width}x{self.expansion}, {rollouts}{self.budget})"

    def search(self, task: Task) -> Search:
        """Beams from the root to their ends, again and again until the budget is spent."""
        root, account, leaves = task.root or Node(), self.budget.open(), dict[Node, None]()
        num_right = prompt_tokens = 0
        beams: list[Node] = []
        while not root.is_closed and not (self.enough and num_right >= self.enough):
            beams = beams or [root]
            parents = [beam for beam in beams for _ in range(self._share(beam))]
            grown, told = yield from self._continue(parents, task, account, max_steps=1)
            if not grown:
                break
            prompt_tokens = told
            worths = yield from _judge(grown, task.seed, prompt_tokens)
            beyond = yield from self._roll_out(worths, task, account)
            ended = {node: worth for node, worth in (worths | beyond).items() if node.stop_reason != "step"}
            num_right += sum(worth == 1.0 for node, worth in ended.items() if node not in leaves)
            leaves |= dict.fromkeys(ended)
            beams = self._keep(grown, worths)
        return harvest(root, leaves, task.seed, prompt_tokens)

    def _share(self, beam: Node) -> int:
        """Continuations of a beam; the root's are those of all."""
        return self.expansion * (self.width if beam.parent is None else 1)

    def _roll_out(
        self, worths: Worths, task: Task, account: Account
    ) -> Generator[Continue | Value, Sequence[Any], Worths]:
        """Write each open step on to an end a few times, have it be worth what they are, and back that up.

        Gives those ends' own worths. A step without a whole rollout keeps the guide's word.
        """
        wanted = [node for node in worths if not node.is_closed for _ in range(self.rollouts)]
        ends, prompt_tokens = yield from self._continue(wanted, task, account, max_steps=0)
        beyond = yield from _judge(ends, task.seed, prompt_tokens)
        whole: dict[Node, list[Node]] = {}
        for step, end in zip(wanted, ends, strict=False):
            if end.stop_reason != "length" or len(end.prefix) >= task.max_new_tokens:
                whole.setdefault(step, []).append(end)
        for step, worth in worths.items():
            for end in whole.get(step, ()):
                end.back_up(beyond[end])
            if step not in whole and not (self.rollouts and step.visits):
                step.back_up(worth)
        worths |= {step: fmean(beyond[end] for end in found) for step, found in whole.items()}
        return beyond

    def _continue(
        self, parents: Sequence[Node], task: Task, account: Account, max_steps: int
    ) -> Generator[Continue | Value, Sequence[Any], tuple[list[Node], int]]:
        """Where a continuation of each parent leads, as far as the budget goes, and the prompt's tokens.

        Parents that wrote the same lead to the same node. A tight budget is spent a few at a time.
        """
        grown: list[Node] = []
        prompt_tokens = 0
        while rest := parents[len(grown) :]:
            room = task.max_new_tokens - min(len(parent.prefix) for parent in rest)
            num, limit = account.afford(len(rest), room, max_steps)
            if not num:
                break
            requests = [
                Request(
                    prompt=task.prompt,
                    prefix=parent.prefix,
                    seed=task.seed + account.nodes + index,
                    temperature=self.temperature,
                    max_new_tokens=min(limit, task.max_new_tokens - len(parent.prefix)),
                    boundary=self.boundary,
                    max_steps=max_steps,
                    known=parent.known() if max_steps else (),
                )
                for index, parent in enumerate(rest[:num])
            ]
            completions = yield from complete(requests)
            account.pay(completions, max_steps)
            for parent, completion in zip(rest, completions, strict=False):
                grown.append(parent.grow(completion))
                grown[-1].cut_off(task.max_new_tokens)
            prompt_tokens = completions[0].prompt_tokens
        return grown, prompt_tokens

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
    """The guide's word on each distinct step; what is worth nothing goes no further."""
    nodes = list(dict.fromkeys(grown))
    if not nodes:
        return {}
    worths = yield from value([node.answer(seed, prompt_tokens) for node in nodes])
    for node, worth in zip(nodes, worths, strict=True):
        node.is_closed = node.is_closed or not worth
    return dict(zip(nodes, worths, strict=True))
