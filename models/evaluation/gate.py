"""Whether a candidate takes over from the champion: never on noise.

Both answer the same problems, and only those that one of them alone solved tell
them apart: McNemar's test (https://doi.org/10.1007/BF02295996), exact and one-sided.
It looks once at one candidate; repeated looks need an alpha of their own each.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, Protocol


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """How sure the gate is before it promotes."""

    alpha: Annotated[float, "Promote when p is below this: at most this share of candidates no better gets by."] = 0.05

    def __post_init__(self) -> None:
        check_between_0_and_1("alpha", self.alpha)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What the gate says, and its evidence.

    `Decision(promoted=True, reason="solved 412 the champion did not …", num_problems=2000, wins=412, losses=101,
    p_value=2.3e-46, alpha=0.05)`
    """

    promoted: bool
    reason: str
    """The verdict in a sentence."""
    num_problems: int
    wins: int
    """Problems that the candidate alone solved."""
    losses: int
    """Problems that the champion alone solved."""
    p_value: float
    alpha: float


class Gate(Protocol):
    """Decides on a candidate from paired outcomes, problem id to solved."""

    def decide(self, candidate: Mapping[str, bool], champion: Mapping[str, bool]) -> Decision:
        """Raises ValueError unless both answered the same problems, one at least."""
        ...


class McNemarGate:
    """Promotes when the exact one-sided McNemar test is significant."""

    def __init__(self, settings: GateSettings) -> None:
        self.alpha = settings.alpha

    def decide(self, candidate: Mapping[str, bool], champion: Mapping[str, bool]) -> Decision:
        """Raises ValueError unless both answered the same problems, one at least."""
        check_paired(candidate, champion)
        wins = sum(solved and not champion[problem] for problem, solved in candidate.items())
        losses = sum(solved and not candidate[problem] for problem, solved in champion.items())
        p_value = mcnemar_p_value(wins, losses)
        return Decision(
            promoted=p_value < self.alpha,
            reason=explain(wins, losses, p_value, self.alpha),
            num_problems=len(candidate),
            wins=wins,
            losses=losses,
            p_value=p_value,
            alpha=self.alpha,
        )


def mcnemar_p_value(wins: int, losses: int) -> float:
    """P(W >= wins) for W ~ Binomial(wins + losses, 1/2), in integers, so that only the last division rounds.

    By symmetry it is P(W <= losses). No discordant problem: 1.
    """
    n = wins + losses
    ways = tail = 1  # C(n, k), and its sum up to k
    for k in range(1, losses + 1):
        ways = ways * (n - k + 1) // k
        tail += ways
    return tail / (1 << n)


def explain(wins: int, losses: int, p_value: float, alpha: float) -> str:
    """The verdict in a sentence."""
    evidence = f"solved {wins} the champion did not and missed {losses} it did"
    if p_value < alpha:
        return f"{evidence} (p = {write_p(p_value, alpha)} < {alpha:g})"
    return f"no significant gain: {evidence} (p = {write_p(p_value, alpha)} ≥ {alpha:g})"


def write_p(p_value: float, alpha: float) -> str:
    """A p-value in two digits, or in as many as show on which side of alpha it lies."""
    texts = [f"{p_value:.{digits}g}" for digits in range(2, 18)]
    return next(text for text in texts if (float(text) < alpha) == (p_value < alpha))


def problems_needed(gain: float, discordant_share: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Benchmark problems with which a true gain is promoted in a share `power` of cases.

    n = (z_alpha + z_power)² (π - δ²) / δ², the normal approximation for a paired difference (Miller 2024,
    https://arxiv.org/abs/2411.00640), one sample a problem. δ is the gain in accuracy (0.05 is five points), π the
    share of problems that one of the two alone solves. Raises ValueError unless 0 < gain <= discordant_share <= 1.
    """
    check_between_0_and_1("alpha", alpha)
    check_between_0_and_1("power", power)
    if not 0 < gain <= discordant_share <= 1:
        raise ValueError(
            f"gain {gain} with discordant_share {discordant_share}; expected 0 < gain <= discordant_share <= 1: "
            f"a gain comes from problems that one of the two alone solves"
        )
    z = NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(power)
    return max(1, math.ceil(z**2 * (discordant_share - gain**2) / gain**2))


def check_paired(candidate: Mapping[str, bool], champion: Mapping[str, bool]) -> None:
    """Raise ValueError unless both answered the same problems, one at least."""
    num_unpaired = len(candidate.keys() ^ champion.keys())
    if num_unpaired or not candidate:
        raise ValueError(
            f"{num_unpaired} problems differ between the candidate's {len(candidate)} and the champion's "
            f"{len(champion)}; expected the same problems, at least one: evaluate both on one benchmark"
        )


def check_between_0_and_1(name: str, value: float) -> None:
    """Raise ValueError unless the value lies between 0 and 1, both excluded."""
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}; expected a number between 0 and 1, such as 0.05")
