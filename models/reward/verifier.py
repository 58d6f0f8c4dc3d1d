"""From the name of a verifier, as a problem's row has it, to the verifier."""

from collections.abc import Sequence

from models.reward.countdown import CountdownVerifier
from models.reward.gym import GymVerifier
from models.reward.math import MathVerifier
from models.reward.protocol import Judgement, Verifier
from models.reward.text import said
from storage.records import Problem

VERIFIERS: dict[str, Verifier] = {
    "countdown": CountdownVerifier(),
    "math": MathVerifier(),
    "reasoning_gym": GymVerifier(),
}
"""Name to verifier, one for the whole process: threads share its workers, which start at its first judgement."""


def judge(attempts: Sequence[tuple[Problem, str]]) -> list[Judgement]:
    """One judgement an attempt, in order, each by its problem's verifier, which reads no thinking.

    Safe to call from several threads. Raises ValueError on an unknown verifier, before any attempt is judged.
    """
    groups: dict[str, list[tuple[Problem, str]]] = {}
    for problem, text in attempts:
        groups.setdefault(problem.verifier, []).append((problem, said(text)))
    verifiers = {name: find_verifier(name) for name in groups}
    judged = {name: iter(verifiers[name].judge(group)) for name, group in groups.items()}
    return [next(judged[problem.verifier]) for problem, _ in attempts]


def reads_gold(problem: Problem) -> bool:
    """Whether the problem's verifier reads its gold answer."""
    return find_verifier(problem.verifier).reads_gold


def find_verifier(name: str) -> Verifier:
    """The verifier of this name. Raises ValueError where there is none."""
    if name not in VERIFIERS:
        raise ValueError(
            f"unknown verifier {name!r}; expected one of {', '.join(VERIFIERS)}: correct the problem's row"
        )
    return VERIFIERS[name]
