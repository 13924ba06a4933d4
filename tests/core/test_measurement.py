"""The early-stopping rule: exact, fast for any n, and the same as it always was."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.measurement import num_discardable, percentile_bound


def exact(n: int, percentile: Fraction, confidence: Fraction = Fraction(99, 100)) -> int:
    """The definition, in rational numbers."""
    failure, cumulative = 1 - percentile, Fraction(0)
    for count in range(n + 1):
        cumulative += math.comb(n, count) * failure**count * percentile ** (n - count)
        if cumulative >= 1 - confidence:
            return max(0, count - 1)
    return n


def summed(n: int, percentile: float, confidence: float = 0.99) -> int:
    """The definition, summed from zero failures up: slow."""
    cumulative = 0.0
    for count in range(n + 1):
        log_term = math.lgamma(n + 1) - math.lgamma(count + 1) - math.lgamma(n - count + 1)
        cumulative += math.exp(log_term + count * math.log(1 - percentile) + (n - count) * math.log(percentile))
        if cumulative > 1 - confidence:
            return max(0, count - 1)
    return n


@given(n=st.integers(0, 600), percentile=st.sampled_from(["0.5", "0.9", "0.95", "0.99", "0.999"]))
def test_num_discardable_is_exact(n: int, percentile: str) -> None:
    assert num_discardable(n, float(percentile)) == exact(n, Fraction(percentile))


@given(n=st.integers(0, 60_000), percentile=st.sampled_from([0.5, 0.9, 0.97, 0.99, 0.999]))
def test_num_discardable_is_what_summing_from_zero_gives(n: int, percentile: float) -> None:
    assert num_discardable(n, percentile) == summed(n, percentile)


@given(n=st.integers(1, 10**9), percentile=st.sampled_from([0.9, 0.99]))
def test_num_discardable_grows_by_at_most_one(n: int, percentile: float) -> None:
    assert 0 <= num_discardable(n + 1, percentile) - num_discardable(n, percentile) <= 1


@pytest.mark.parametrize(
    ("n", "percentile", "expected"), [(10**6, 0.90, 99_302), (10**6, 0.99, 9_768), (10**9, 0.90, 99_977_930)]
)
def test_num_discardable_of_millions(n: int, percentile: float, expected: int) -> None:
    # The bounds of scipy.stats.binom.cdf(expected, n, 1 - percentile) < 0.01 <= cdf(expected + 1, ...).
    assert num_discardable(n, percentile) == expected


def test_percentile_bound_is_the_sample_of_that_rank_from_the_top() -> None:
    samples = list(range(700, 0, -1))

    assert percentile_bound(samples, 0.90) == sorted(samples)[-num_discardable(700, 0.90)]
    assert percentile_bound(samples, 0.99) == 700  # 99 % of 700 leaves none to discard
    assert percentile_bound(samples[:661], 0.99) is None


@given(n=st.integers(64, 3000))
def test_percentile_bound_proves_its_percentile(n: int) -> None:
    """Were the percentile above the bound, fewer failures than 1 % of all runs have would have been seen."""
    bound = percentile_bound(range(n), 0.90)

    assert bound is not None
    num_above = n - 1 - int(bound)
    assert num_above < num_discardable(n, 0.90)
