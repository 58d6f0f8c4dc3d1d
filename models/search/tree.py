"""The tree that a search grows: a node a step, equal siblings one node, every generated token charged to some node."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from models.policy.protocol import Completion, Known

CLOSED_BELOW = 0.02
"""A node takes no more children when the policy would write another step with this probability or less."""

MOST_FAILURES = 3
"""A node from which so many continuations failed is asked no more."""


@dataclass(eq=False, slots=True)
class Node:
    """A step, and what the search thinks of it: `Node()` is a root, an answer not begun."""

    parent: "Node | None" = field(default=None, repr=False)
    text: str = ""
    """What it adds to its parent's answer."""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    """Of its own tokens, at the temperature that sampled them."""
    stop_reason: str = "step"
    """step, where the answer may go on; else why it ended here: end, length or error."""
    prefix: tuple[int, ...] = ()
    """The answer's tokens up to here, its own among them."""
    num_tokens: int = 0
    """Tokens generated for it: its own, and those of duplicates."""
    draws: int = 0
    """How often the policy wrote it: 1, and a duplicate each time more."""
    visits: int = 0
    total: float = 0.0
    """Sum of the values backed up to it."""
    seen: float = 0.0
    """Sum of the children's probabilities."""
    is_closed: bool = False
    """Whether nothing new is to be had below it."""
    failures: int = 0
    """Continuations from here that failed."""
    children: dict[tuple[int, ...], "Node"] = field(default_factory=dict, repr=False)

    @property
    def value(self) -> float:
        """Mean value backed up to it; 0 where none was."""
        return self.total / self.visits if self.visits else 0.0

    @property
    def likelihood(self) -> float:
        """Length-normalised: the geometric mean of its tokens' probabilities, 0 for none."""
        return math.exp(sum(self.logprobs) / len(self.logprobs)) if self.logprobs else 0.0

    @property
    def prior(self) -> float:
        """The policy's prior: its likelihood's share among its siblings'; 1 for the root."""
        if self.parent is None:
            return 1.0
        siblings = sum(sibling.likelihood for sibling in self.parent.children.values())
        return self.likelihood / siblings if siblings else 1.0

    @property
    def unseen(self) -> float:
        """Probability that the policy's next draw from here is a step that is not among the children."""
        return max(0.0, 1.0 - self.seen)

    def known(self) -> tuple[Known, ...]:
        """The steps after it that are not to be written again; none where hardly any other is left."""
        if self.unseen <= CLOSED_BELOW:
            return ()
        return tuple(
            Known(child.token_ids, child.logprobs)
            for child in self.children.values()
            if child.token_ids and child.stop_reason != "length"  # whole steps may begin with a fragment
        )

    def path(self) -> list["Node"]:
        """From the first step to this one."""
        steps, node = [], self
        while node.parent is not None:
            steps.append(node)
            node = node.parent
        return steps[::-1]

    def walk(self) -> Iterator["Node"]:
        """This node and all below it, parents first, siblings as they were born."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(node.children.values())

    def answer(self, seed: int, prompt_tokens: int) -> Completion:
        """All that was written up to here."""
        path = self.path()
        return Completion(
            text="".join(step.text for step in path),
            token_ids=[*self.prefix],
            logprobs=[logprob for step in path for logprob in step.logprobs],
            prompt_tokens=prompt_tokens,
            stop_reason=self.stop_reason,
            seed=seed,
        )

    def grow(self, completion: Completion) -> "Node":
        """Add a continuation's steps, where they are new, and charge its tokens; gives the node of the last.

        One that failed is a child without text; several close this node, for more would fail as well.
        """
        node, first = self, 0
        if completion.stop_reason == "error":
            self.failures += 1
            self.is_closed = self.is_closed or self.failures >= MOST_FAILURES
            child = self._child("", (), (), "error")
            child.draws += 1
            return child
        for index, piece in enumerate(completion.pieces, start=1):
            end = first + piece.num_tokens
            reason = completion.stop_reason if index == len(completion.pieces) else "step"
            node = node._child(
                piece.text, tuple(completion.token_ids[first:end]), tuple(completion.logprobs[first:end]), reason
            )
            node.num_tokens += piece.num_tokens
            node.draws += 1
            first = end
        return node

    def cut_off(self, max_tokens: int) -> None:
        """End an answer that may not be longer."""
        if self.stop_reason == "step" and len(self.prefix) >= max_tokens:
            self.stop_reason, self.is_closed = "length", True

    def back_up(self, value: float) -> None:
        """Tell this node and all above it a value; closes those below which nothing new is to be had."""
        node: Node | None = self
        while node is not None:
            node.visits += 1
            node.total += value
            if not node.is_closed and node.children and all(child.is_closed for child in node.children.values()):
                node.is_closed = node.unseen <= CLOSED_BELOW
            node = node.parent

    def _child(self, text: str, token_ids: tuple[int, ...], logprobs: tuple[float, ...], stop_reason: str) -> "Node":
        child = self.children.get(token_ids)
        if child is None:
            child = self.children[token_ids] = Node(
                parent=self,
                text=text,
                token_ids=token_ids,
                logprobs=logprobs,
                stop_reason=stop_reason,
                prefix=self.prefix + token_ids,
                is_closed=stop_reason != "step",
            )
            self.seen += math.exp(sum(logprobs)) if token_ids else 0.0
        return child
