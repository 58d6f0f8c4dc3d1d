"""From the name of a verifier, as a problem's row has it, to the verifier."""

from collections.abc import Callable, Sequence
from functools import cache

from models.reward.countdown import CountdownVerifier
from models.reward.gym import GymVerifier
from models.reward.math import MathVerifier
from models.reward.protocol import Judgement, Verifier
from storage.records import Problem

VERIFIERS: dict[str, Callable[[], Verifier]] = {
    "countdown": CountdownVerifier,
    "math": MathVerifier,
    "reasoning_gym": GymVerifier,
}
"""Name to verifier."""


def judge(attempts: Sequence[tuple[Problem, str]]) -> list[Judgement]:
    """One judgement an attempt, in order, each by its problem's verifier. Raises ValueError on an unknown name."""
    groups: dict[str, list[int]] = {}
    for index, (problem, _) in enumerate(attempts):
        groups.setdefault(problem.verifier, []).append(index)
    verifiers = {name: open_verifier(name) for name in groups}
    judgements: dict[int, Judgement] = {}
    for name, indices in groups.items():
        judged = verifiers[name].judge([attempts[index] for index in indices])
        judgements.update(zip(indices, judged, strict=True))
    return [judgements[index] for index in range(len(attempts))]


def reads_gold(problem: Problem) -> bool:
    """Whether the problem's verifier reads its gold answer."""
    return open_verifier(problem.verifier).reads_gold


@cache
def open_verifier(name: str) -> Verifier:
    """The verifier of this name, one for the whole process: its workers are kept."""
    if name not in VERIFIERS:
        raise ValueError(
            f"unknown verifier {name!r}; expected one of {', '.join(VERIFIERS)}: correct the problem's row"
        )
    return VERIFIERS[name]()
