"""Sampling without replacement, a token at a time (Shi, Bieber, Sutton 2020, 2002.09067).

Where some continuations were written before, the next token t after the tokens h is drawn with
probability proportional to

    p(t | h) (1 - f(h t)),   f(h t) = sum over the known continuations y that begin with h t of p(y | h t)

so that what is drawn is a continuation by the policy, given that it is none of those.
"""

import math
from collections.abc import Iterable

from models.policy.protocol import Known

ROUNDING = 1e-6
"""A share of what is left that rounding may have made."""

Trie = dict[int, "Branch"]
"""A next token to what begins with it."""


class Branch:
    """Known continuations that begin with the same tokens, each with the log-probability of the rest of it.

    What follows is found when it is asked for: of what a policy wrote before it hardly ever writes more than the start.
    """

    __slots__ = ("depth", "members", "share")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.members: list[tuple[Known, float]] = []
        self.share = 0.0
        """f: what they take of the probability of all that begins so."""

    @property
    def below(self) -> Trie:
        """By the next token."""
        return divide(self.members, self.depth)

    @property
    def log_left(self) -> float:
        """log(1 - f)."""
        left = 1.0 - self.share
        return math.log(left) if left > ROUNDING else -math.inf


def build_trie(known: Iterable[Known]) -> Trie:
    """Known continuations, by their first tokens."""
    return divide([(each, sum(each.logprobs)) for each in known], 0)


def divide(members: Iterable[tuple[Known, float]], depth: int) -> Trie:
    """Known continuations that are alike so far, by the next token."""
    trie: Trie = {}
    for each, rest in members:
        if depth == len(each.token_ids):
            continue
        token, left = each.token_ids[depth], rest - each.logprobs[depth]
        branch = trie.get(token)
        if branch is None:
            branch = trie[token] = Branch(depth + 1)
        branch.members.append((each, left))
        branch.share += math.exp(left)
    return trie
