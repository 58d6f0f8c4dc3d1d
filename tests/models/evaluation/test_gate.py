"""The gate at its edges, against scipy, and under no difference."""

import random
from time import monotonic

import pytest
from scipy.stats import binomtest, norm

from models.evaluation.gate import Decision, GateSettings, McNemarGate, mcnemar_p_value, problems_needed


def outcomes(solved: str) -> dict[str, bool]:
    """`outcomes("101")` says that problems 0 and 2 were solved."""
    return {f"p{index}": mark == "1" for index, mark in enumerate(solved)}


def decide(candidate: dict[str, bool], champion: dict[str, bool], alpha: float = 0.05) -> Decision:
    return McNemarGate(GateSettings(alpha=alpha)).decide(candidate, champion)


def test_a_gain_is_promoted_with_its_evidence() -> None:
    assert decide(outcomes("1111110"), outcomes("0000010")) == Decision(
        promoted=True,
        reason="solved 5 the champion did not and missed 0 it did (p = 0.031 < 0.05)",
        num_problems=7,
        wins=5,
        losses=0,
        p_value=1 / 32,
        alpha=0.05,
    )


def test_no_significant_gain_is_refused() -> None:
    assert decide(outcomes("11110"), outcomes("00001")) == Decision(
        promoted=False,
        reason="no significant gain: solved 4 the champion did not and missed 1 it did (p = 0.19 ≥ 0.05)",
        num_problems=5,
        wins=4,
        losses=1,
        p_value=6 / 32,
        alpha=0.05,
    )


@pytest.mark.parametrize("solved", ["0", "1", "0101"])
def test_equal_outcomes_are_refused_with_p_1(solved: str) -> None:
    decision = decide(outcomes(solved), outcomes(solved))
    assert (decision.promoted, decision.p_value, decision.wins, decision.losses) == (False, 1.0, 0, 0)


def test_a_loss_is_refused() -> None:
    assert decide(outcomes("0" * 100), outcomes("1" * 100)).p_value == 1.0


def test_the_order_of_problems_does_not_matter() -> None:
    candidate = outcomes("1111110")
    assert decide(dict(reversed(candidate.items())), outcomes("0000010")) == decide(candidate, outcomes("0000010"))


def test_p_equal_to_alpha_is_not_below_it() -> None:
    assert not decide(outcomes("11111"), outcomes("00000"), alpha=1 / 32).promoted
    assert decide(outcomes("111111"), outcomes("000000"), alpha=1 / 32).promoted


def test_a_p_value_is_written_in_digits_enough_to_make_the_sentence_true() -> None:
    assert decide(outcomes("11111"), outcomes("00000"), alpha=0.0313).reason.endswith("(p = 0.031 < 0.0313)")
    assert decide(outcomes("11111"), outcomes("00000"), alpha=0.0311).reason.endswith("(p = 0.0312 ≥ 0.0311)")


@pytest.mark.parametrize(
    ("wins", "losses"),
    [(0, 0), (1, 0), (0, 1), (5, 0), (0, 5), (9, 3), (60, 40), (412, 101), (1030, 970), (3100, 2900), (970, 1030)],
)
def test_p_value_is_scipys(wins: int, losses: int) -> None:
    n = wins + losses
    expected = binomtest(wins, n, 0.5, alternative="greater").pvalue if n else 1.0
    assert mcnemar_p_value(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_p_value_of_many_thousands_is_quick_and_finite() -> None:
    started = monotonic()
    assert mcnemar_p_value(5_000, 5_000) == pytest.approx(0.504, abs=1e-3)
    assert mcnemar_p_value(10_000, 0) == 0.0  # below the smallest float
    assert mcnemar_p_value(0, 10_000) == 1.0
    assert monotonic() - started < 2


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.01])
def test_no_better_candidate_gets_by_more_often_than_alpha(alpha: float) -> None:
    for n in (1, 5, 17, 100, 401):
        promoted = [wins for wins in range(n + 1) if mcnemar_p_value(wins, n - wins) < alpha]
        share = binomtest(min(promoted), n, 0.5, alternative="greater").pvalue if promoted else 0.0
        assert share < alpha
        assert promoted == list(range(n + 1 - len(promoted), n + 1))


def test_simulated_equals_are_promoted_at_most_at_alpha() -> None:
    rng = random.Random(0)
    gate = McNemarGate(GateSettings(alpha=0.05))
    runs = 2_000
    promoted = sum(gate.decide(_sample(rng, 0.3), _sample(rng, 0.3)).promoted for _ in range(runs))
    assert promoted / runs < 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5


def _sample(rng: random.Random, accuracy: float) -> dict[str, bool]:
    return {str(problem): rng.random() < accuracy for problem in range(100)}


def test_other_problems_are_an_error_that_counts_them() -> None:
    with pytest.raises(ValueError, match="3 problems differ between the candidate's 3 and the champion's 4"):
        decide(outcomes("101"), {**outcomes("10"), "p7": True, "p8": False})
    with pytest.raises(ValueError, match="at least one"):
        decide({}, {})


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 5.0, float("nan")])
def test_alpha_lies_between_0_and_1(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha is"):
        GateSettings(alpha=alpha)


def test_problems_needed_are_the_fields_figures() -> None:
    assert problems_needed(0.03, 0.25, 0.05, 0.8) == pytest.approx(1_700, rel=0.01)
    assert problems_needed(0.05, 0.25, 0.05, 0.8) == pytest.approx(610, rel=0.01)
    assert problems_needed(1.0, 1.0, 0.05, 0.8) == 1


def test_problems_needed_give_about_the_power_asked_for() -> None:
    gain, discordant = 0.05, 0.25
    n = problems_needed(gain, discordant, 0.05, 0.8)
    spread = ((discordant - gain**2) / n) ** 0.5
    assert norm.cdf(gain / spread - norm.ppf(0.95)) == pytest.approx(0.8, abs=0.005)


@pytest.mark.parametrize(
    ("gain", "discordant", "alpha", "power"),
    [(0, 0.25, 0.05, 0.8), (0.3, 0.25, 0.05, 0.8), (0.1, 1.1, 0.05, 0.8), (0.1, 0.2, 0, 0.8), (0.1, 0.2, 0.05, 1)],
)
def test_impossible_questions_are_errors(gain: float, discordant: float, alpha: float, power: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        problems_needed(gain, discordant, alpha, power)
