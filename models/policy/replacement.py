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
    """Known continuations that begin with the same tokens."""

    __slots__ = ("below", "share")

    def __init__(self) -> None:
        self.share = 0.0
        """f: what they take of the probability of all that begins so."""
        self.below: Trie = {}

    @property
    def log_left(self) -> float:
        """log(1 - f)."""
        left = 1.0 - self.share
        return math.log(left) if left > ROUNDING else -math.inf


def build_trie(known: Iterable[Known]) -> Trie:
    """Known continuations, token for token."""
    root: Trie = {}
    for token_ids, logprobs in known:
        below, rest = root, sum(logprobs)
        for token, logprob in zip(token_ids, logprobs, strict=True):
            rest -= logprob
            branch = below.setdefault(token, Branch())
            branch.share += math.exp(rest)
            below = branch.below
    return root
