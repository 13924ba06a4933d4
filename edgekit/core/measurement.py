"""Measured numbers with their conditions, and the rule for which percentiles may be printed."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from statistics import NormalDist

import msgspec

_NEGLIGIBLE = 1e-17
"""Share of a sum below which what is left of it cannot change it."""
_SMALL = 15
"""Up to here log-gamma is accurate enough, above the series is."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Latency of one file on one board.

    Args:
        file: File name.
        runtime: "litert 2.3.0", "onnxruntime 1.32.0", ...
        board: Board id.
        num_threads: Threads the runtime was given.
        num_warmup: Queries thrown away before.
        n: Queries counted.
        p50_ms: Median wall time of one inference.
        p90_ms: 90th percentile by the early-stopping rule; None below 64 queries.
        p99_ms: 99th percentile by the early-stopping rule; None below 662 queries.
        cpu_p50_ms: Median CPU time of one inference (all threads).
        load_ms: Time to load the model, first inference apart.
        first_ms: Wall time of the first inference.
        peak_rss_mib: Peak resident memory of the measuring process; None when not isolated.
    """

    file: str
    runtime: str
    board: str
    num_threads: int
    num_warmup: int
    n: int
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    cpu_p50_ms: float
    load_ms: float
    first_ms: float
    peak_rss_mib: float | None


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Share of right answers.

    Args:
        top1: 0..1.
        top5: 0..1; None with fewer than 6 classes.
        n: Pictures.
        ci95: 95 % Wilson interval of top1.
    """

    top1: float
    top5: float | None
    n: int
    ci95: tuple[float, float]


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How a file answers beside the float model on the same pictures.

    Args:
        top1: Share of equal top-1 answers, 0..1.
        max_abs_error: Largest difference of any logit.
        n: Pictures.
    """

    top1: float
    max_abs_error: float
    n: int


def wilson_interval(num_right: float, n: float, z: float = 1.959964) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927), (0, 1) for n = 0.

    `num_right` may be a fraction: a tie for the best answer counts in part (`edgekit.evaluate.metrics`). So may `n`,
    where pictures of rare classes weigh more (`edgekit.evaluate.classwise`).

    >>> [round(bound, 3) for bound in wilson_interval(90, 100)]
    [0.826, 0.945]
    """
    if n == 0:
        return (0.0, 1.0)
    share = num_right / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    denominator = 1 + z * z / n
    return (max(0.0, (centre - half) / denominator), min(1.0, (centre + half) / denominator))


def median(samples: Sequence[float]) -> float:
    """Middle value, mean of the two middle ones for an even count. `samples` must not be empty."""
    ordered = sorted(samples)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


@functools.lru_cache(maxsize=64)
def num_discardable(n: int, percentile: float, confidence: float = 0.99) -> int:
    """Largest t such that n samples with t above the bound still prove the percentile.

    MLPerf's early stopping (LoadGen, `early_stopping.cc`): with failure probability 1 - percentile, seeing at most t
    failures in n trials must have probability less than 1 - confidence. 0 when n is too small.

    The number of failures lies about 2.3 standard deviations below its mean, so the search starts there, sums the
    tail below it once and walks the few steps that are left: O(sqrt(n)) additions.

    >>> num_discardable(63, 0.90), num_discardable(64, 0.90)
    (0, 1)
    >>> num_discardable(661, 0.99), num_discardable(662, 0.99)
    (0, 1)
    """
    failure = 1.0 - percentile
    allowed = 1.0 - confidence
    if n < 1 or failure <= 0.0:
        return 0
    quantile = NormalDist().inv_cdf(allowed)
    count = max(0, min(n, math.floor(n * failure + quantile * math.sqrt(n * failure * percentile))))
    term = math.exp(_log_probability(count, n, failure))
    tail = _tail(count, n, failure, term)
    while tail >= allowed and count > 0:
        tail -= term
        term *= count * percentile / ((n - count + 1) * failure)
        count -= 1
    if tail >= allowed:
        return 0
    while count < n:
        term *= (n - count) * failure / ((count + 1) * percentile)
        tail += term
        if tail >= allowed:
            break
        count += 1
    return count


def percentile_bound(samples: Sequence[float], percentile: float) -> float | None:
    """Upper bound of a percentile at 99 % confidence, or None when there are too few samples to tell.

    MLPerf LoadGen's early-stopping estimate (`results.cc`): the t-th largest sample, t from `num_discardable`; it
    discards the t - 1 above it. Needs 64 samples for 0.90 and 662 for 0.99.
    """
    rank = num_discardable(len(samples), percentile)
    if rank < 1:
        return None
    return sorted(samples)[len(samples) - rank]


def _tail(count: int, n: int, failure: float, term: float) -> float:
    """Probability of at most `count` failures, summed downward from `term`, the probability of exactly `count`."""
    odds = (1.0 - failure) / failure
    total = term
    # Below the mean every term is smaller than the one before by a ratio that falls: what is left is less than the
    # geometric series of the last ratio.
    while count > 0:
        ratio = count * odds / (n - count + 1)
        term *= ratio
        total += term
        count -= 1
        if ratio < 1.0 and term * ratio <= (1.0 - ratio) * total * _NEGLIGIBLE:
            break
    return total


def _log_probability(count: int, n: int, failure: float) -> float:
    """Logarithm of the probability of exactly `count` failures in n trials.

    By its saddle point (Loader 2000, "Fast and accurate computation of binomial probabilities"): exact to rounding,
    where differences of log-gammas lose digits to cancellation.
    """
    success = 1.0 - failure
    if count == 0:
        return n * math.log1p(-failure)
    if count == n:
        return n * math.log(failure)
    rest = n - count
    corrections = _stirling_error(n) - _stirling_error(count) - _stirling_error(rest)
    deviances = _deviance(count, n * failure) + _deviance(rest, n * success)
    return corrections - deviances + 0.5 * math.log(n / (2.0 * math.pi * count * rest))


def _stirling_error(n: int) -> float:
    """log(n!) minus Stirling's approximation of it (Loader 2000, eq. 3)."""
    if n <= _SMALL:
        return math.lgamma(n + 1.0) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2.0 * math.pi)
    square = n * n
    return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * square)) / square) / square) / n


def _deviance(count: int, mean: float) -> float:
    """Return count * log(count / mean) + mean - count without cancellation near the mean (Loader 2000, eq. 5)."""
    difference = count - mean
    if abs(difference) >= 0.1 * (count + mean):
        return count * math.log(count / mean) + mean - count
    ratio = difference / (count + mean)
    total = difference * ratio
    power = 2.0 * count * ratio
    for order in range(1, 1000):
        power *= ratio * ratio
        grown = total + power / (2 * order + 1)
        if grown == total:
            break
        total = grown
    return total
