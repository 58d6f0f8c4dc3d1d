"""Monte-Carlo tree search over steps, guided by PUCT (Silver et al. 2017, 2018; for texts, rStar-Math, 2501.04519).

Selection goes down to the child with the greatest

    Q(s, a) + c(s) P(a|s) sqrt(N(s)) / (1 + N(s, a)),   c(s) = ln((N(s) + 19652 + 1) / 19652) + c

where Q is the mean value backed up, N counts visits, and P is the policy's prior: its
length-normalised likelihood of the step among its siblings. It stops where a node is to
have another child, by progressive widening (Coulom 2007): while it has fewer than
k N(s)^alpha. Expansion asks the policy to go on from there; evaluation is that rollout's
end, of which every step joins the tree, or else the guide's word on the first step alone.
A step of which the guide says that nothing can come is gone no further.
"""

import math
from dataclasses import dataclass

from models.policy.protocol import Boundary, Request
from models.search.budget import Budget
from models.search.protocol import Search, Task, complete, harvest, value
from models.search.tree import CLOSED_BELOW, Node

C_BASE = 19652


@dataclass(frozen=True, kw_only=True, slots=True)
class MCTS:
    """`MCTS(budget=Budget(tokens=600), boundary=";")`."""

    budget: Budget
    boundary: Boundary
    temperature: float = 1.0
    exploration: float = 1.25
    """c, what an uncertain step is worth beside a good one."""
    width: float = 1.0
    """k of progressive widening."""
    widening: float = 0.5
    """alpha of progressive widening; 0: k children, 1: k a visit."""
    rolls_out: bool = True
    """Whether a step is evaluated by a rollout to the end; else by the guide, which must know unfinished answers."""
    is_stepwise: bool = True
    """Whether the guide sees each step of a rollout, and may end it there; else it runs to its end in one go."""
    enough: int = 1
    """Right answers, by the guide, that end the search; 0: the budget alone does."""

    @property
    def label(self) -> str:
        """`mcts(600 tokens)`."""
        return f"mcts({self.budget})"

    def search(self, task: Task) -> Search:
        """Select, expand, evaluate and back up, until the budget is spent or nothing new is to be had."""
        root, account, leaves = task.root or Node(), self.budget.open(), list[Node]()
        number = num_right = prompt_tokens = 0
        while not root.is_closed and not (self.enough and num_right >= self.enough):
            leaf, worth = self._select(root), None
            while worth is None or (self.rolls_out and not leaf.is_closed):
                num, limit = account.afford(1, task.max_new_tokens - len(leaf.prefix))
                if not num:
                    return harvest(root, leaves, task.seed, prompt_tokens)
                (completion,) = yield from complete([self._request(task, leaf, number, limit)])
                account.pay([completion])
                leaf, prompt_tokens = leaf.grow(completion), completion.prompt_tokens
                leaf.cut_off(task.max_new_tokens)
                (worth,) = yield from value([leaf.answer(task.seed, prompt_tokens)])
                if not worth:
                    leaf.is_closed = True
            if leaf.stop_reason != "step" and not leaf.visits:
                leaves.append(leaf)
                num_right += worth == 1.0
            leaf.back_up(leaf.value if leaf.visits else worth)
            number += 1
        return harvest(root, leaves, task.seed, prompt_tokens)

    def _select(self, root: Node) -> Node:
        """The node to go on from."""
        node = root
        while not self._may_widen(node):
            children = [child for child in node.children.values() if not child.is_closed]
            if not children:
                break
            prior = 1.0 / (sum(child.likelihood for child in node.children.values()) or 1.0)
            scale = math.log((node.visits + C_BASE + 1) / C_BASE) + self.exploration
            scale *= prior * math.sqrt(node.visits)
            node = max(children, key=lambda child: child.value + scale * child.likelihood / (1 + child.visits))
        return node

    def _may_widen(self, node: Node) -> bool:
        """Whether it is time for another child, and another is likely."""
        limit = self.width * max(1, node.visits) ** self.widening
        return len(node.children) < limit and node.unseen > CLOSED_BELOW

    def _request(self, task: Task, node: Node, number: int, limit: int) -> Request:
        return Request(
            prompt=task.prompt,
            prefix=node.prefix,
            seed=task.seed + number,
            temperature=self.temperature,
            max_new_tokens=limit,
            boundary=self.boundary,
            max_steps=1 if self.is_stepwise or not self.rolls_out else 0,
            known=node.known(),
        )
