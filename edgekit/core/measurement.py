"""Measured numbers with their conditions, and the rule for which percentiles may be printed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


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


def wilson_interval(num_right: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927), (0, 1) for n = 0.

    `num_right` may be a fraction: a tie for the best answer counts in part (`edgekit.evaluate.metrics`).

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


def num_discardable(n: int, percentile: float, confidence: float = 0.99) -> int:
    """Largest t such that n samples with t above the bound still prove the percentile.

    MLPerf's early stopping (LoadGen): with failure probability 1 - percentile, seeing at most t failures in n trials
    must have probability at most 1 - confidence. 0 when n is too small.

    >>> num_discardable(63, 0.90), num_discardable(64, 0.90)
    (0, 1)
    >>> num_discardable(661, 0.99), num_discardable(662, 0.99)
    (0, 1)
    """
    failure = 1.0 - percentile
    cumulative = 0.0
    for count in range(n + 1):
        log_term = (
            math.lgamma(n + 1)
            - math.lgamma(count + 1)
            - math.lgamma(n - count + 1)
            + count * math.log(failure)
            + (n - count) * math.log(percentile)
        )
        cumulative += math.exp(log_term)
        if cumulative > 1.0 - confidence:
            return max(0, count - 1)
    return n


def percentile_bound(samples: Sequence[float], percentile: float) -> float | None:
    """Upper bound of a percentile at 99 % confidence, or None when there are too few samples to tell.

    As MLPerf LoadGen's early-stopping estimate: the (t + 1)-th largest sample, t from `num_discardable`.
    Needs 64 samples for 0.90 and 662 for 0.99.
    """
    discardable = num_discardable(len(samples), percentile)
    if discardable < 1:
        return None
    return sorted(samples)[len(samples) - discardable - 1]
