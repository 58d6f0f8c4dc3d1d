"""Which of several attempts is given as the answer, where nothing says that one is right.

First: the search's own first choice. Majority (self-consistency, Wang et al. 2022): the answer
that most attempts come to. Weighted (Cobbe et al. 2021; Li et al. 2023): the answer a with the
greatest sum of v_i over the attempts i that come to a, where v_i is what the guide says of them.
"""

from collections.abc import Callable, Sequence

Choice = Callable[[Sequence[str], Sequence[float]], int]
"""From each attempt's answer, empty where it has none, and value, to the index of the attempt that is given."""


def first(answers: Sequence[str], values: Sequence[float]) -> int:
    """The first attempt that has an answer, else the first."""
    return next((index for index, answer in enumerate(answers) if answer), 0)


def majority(answers: Sequence[str], values: Sequence[float]) -> int:
    """The first attempt of the most frequent answer."""
    return weighted(answers, [1.0] * len(answers))


def weighted(answers: Sequence[str], values: Sequence[float]) -> int:
    """The first attempt of the answer with the greatest sum of values; of equal ones the one that came first."""
    sums: dict[str, float] = {}
    for answer, worth in zip(answers, values, strict=True):
        if answer:
            sums[answer] = sums.get(answer, 0.0) + worth
    return answers.index(max(sums, key=lambda answer: sums[answer])) if sums else 0


CHOICES: dict[str, Choice] = {"first": first, "majority": majority, "weighted": weighted}
"""Name to choice."""
