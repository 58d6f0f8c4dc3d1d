"""Intervals and pass@k against scipy, brute force and worked values."""

from itertools import combinations

import pytest
from scipy.stats import binom, binomtest

from models.evaluation.metrics import mean_pass_at_k, pass_at_k, wilson_interval


@pytest.mark.parametrize(("solved", "problems"), [(0, 1), (1, 1), (0, 500), (500, 500), (7, 10), (1312, 2000)])
def test_interval_is_scipys(solved: int, problems: int) -> None:
    expected = binomtest(solved, problems).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(solved, problems) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_interval_is_around_the_share_and_ends_at_0_and_1() -> None:
    for n in range(1, 100):
        for solved in range(n + 1):
            low, high = wilson_interval(solved, n)
            assert 0 <= low <= solved / n <= high <= 1
    assert wilson_interval(0, 20).low == 0.0
    assert wilson_interval(20, 20).high == 1.0


def test_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    truth, n = 0.21, 500
    intervals = [wilson_interval(solved, n) for solved in range(n + 1)]
    coverage = sum(binom.pmf(k, n, truth) for k, (low, high) in enumerate(intervals) if low <= truth <= high)
    assert coverage == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(("solved", "problems"), [(0, 0), (-1, 10), (11, 10), (0, -1)])
def test_a_share_of_nothing_is_an_error(solved: int, problems: int) -> None:
    with pytest.raises(ValueError, match=f"{solved} solved of {problems}"):
        wilson_interval(solved, problems)


def test_pass_at_k_is_the_share_of_subsets_with_a_correct_one() -> None:
    for n in range(1, 8):
        for c in range(n + 1):
            for k in range(1, n + 1):
                subsets = list(combinations([i < c for i in range(n)], k))
                assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


def test_pass_at_k_at_its_edges() -> None:
    assert pass_at_k(8, 0, 8) == 0.0
    assert pass_at_k(8, 1, 8) == 1.0
    assert pass_at_k(16, 9, 8) == 1.0
    assert pass_at_k(1_000_000, 1, 1) == pytest.approx(1e-6)


@pytest.mark.parametrize(("n", "c", "k"), [(8, 1, 9), (8, 1, 0), (0, 0, 1), (8, 9, 1)])
def test_pass_at_k_of_too_few_samples_is_an_error(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match=r"expected|k must be"):
        pass_at_k(n, c, k)


def test_pass_at_k_is_averaged_over_problems() -> None:
    assert mean_pass_at_k([(2, 1), (4, 0), (1, 1)], 1) == pytest.approx((0.5 + 0 + 1) / 3)
    with pytest.raises(ValueError, match="no problems"):
        mean_pass_at_k([], 8)
