"""A histogram of durations in constant memory: buckets that grow with what they hold.

A duration in whole nanoseconds keeps its 8 leading bits; durations that agree in them share a bucket. A bucket is so at
most 1/128 (0.8 %) as wide as what is in it, whatever its magnitude, and which bucket is integer arithmetic: no
logarithm that could put a duration on the wrong side of an edge. (As HdrHistogram does it, Tene 2012.)
"""

from __future__ import annotations

import math
from array import array

import numpy as np
import numpy.typing as npt

from edgekit.core.measurement import num_discardable

Counts = npt.NDArray[np.int64]

_LEADING_BITS = 8
_HALF = 1 << (_LEADING_BITS - 1)
MAX_NS = 600_000_000_000
"""Ten minutes; longer durations are counted in the last bucket, and the exact maximum speaks for them."""


def bucket_of(nanoseconds: int) -> int:
    """Bucket of a duration of 0 to `MAX_NS` nanoseconds.

    >>> bucket_of(255), bucket_of(256), bucket_of(257), bucket_of(258)
    (255, 256, 256, 257)
    """
    shift = nanoseconds.bit_length() - _LEADING_BITS
    return nanoseconds if shift <= 0 else shift * _HALF + (nanoseconds >> shift)


def upper_edge_ns(bucket: int) -> int:
    """First duration above a bucket: everything in it is shorter.

    >>> upper_edge_ns(bucket_of(1_000_000)) / 1e6
    1.00352
    """
    if bucket < 2 * _HALF:
        return bucket + 1
    shift = bucket // _HALF - 1
    return (bucket - shift * _HALF + 1) << shift


NUM_BUCKETS = bucket_of(MAX_NS) + 1


class Histogram:
    """Counts of durations, with their exact sum and maximum. Not thread-safe: its owner locks."""

    def __init__(self) -> None:
        self._counts = array("q", bytes(8 * NUM_BUCKETS))
        self.n = 0
        self.sum_ns = 0
        self.max_ns = 0

    def record(self, nanoseconds: int) -> None:
        """Count one duration. What is negative (a clock that was read twice in the wrong order) counts as zero."""
        if nanoseconds > self.max_ns:  # noqa: PLR1730 - max() costs three times as much, once a frame and stage
            self.max_ns = nanoseconds
        if not 0 <= nanoseconds <= MAX_NS:
            nanoseconds = 0 if nanoseconds < 0 else MAX_NS
        shift = nanoseconds.bit_length() - _LEADING_BITS
        self._counts[nanoseconds if shift <= 0 else shift * _HALF + (nanoseconds >> shift)] += 1
        self.sum_ns += nanoseconds
        self.n += 1

    def add(self, other: Histogram) -> None:
        """Count everything that another one has counted."""
        counts = np.frombuffer(self._counts, np.int64)
        counts += np.frombuffer(other._counts, np.int64)
        self.n += other.n
        self.sum_ns += other.sum_ns
        self.max_ns = max(self.max_ns, other.max_ns)

    def copy(self) -> Histogram:
        """The same counts, apart from these."""
        twin = Histogram()
        twin.add(self)
        return twin

    @property
    def mean_ns(self) -> float:
        """Exact mean (of what is over ten minutes, ten minutes); 0 without durations."""
        return self.sum_ns / self.n if self.n else 0.0

    def median_ns(self) -> int | None:
        """Upper bound of the middle duration (of the upper of the two middle ones); None without durations."""
        return self._largest(self.n - self.n // 2) if self.n else None

    def percentile_bound_ns(self, percentile: float) -> int | None:
        """Upper bound of a percentile by the early-stopping rule; None when there are too few durations.

        The bucket that holds the sample which `edgekit.core.measurement.percentile_bound` would name, at its upper
        edge, or at the exact maximum where that is lower: at most 0.8 % above that sample, never below it.
        """
        rank = num_discardable(self.n, percentile)
        return self._largest(rank) if rank >= 1 else None

    def _largest(self, rank: int) -> int:
        """Upper bound of the rank-th largest duration, rank from 1 on."""
        from_top = np.cumsum(np.frombuffer(self._counts, np.int64)[::-1])
        bucket = NUM_BUCKETS - 1 - int(np.searchsorted(from_top, rank))
        return self.max_ns if bucket == NUM_BUCKETS - 1 else min(upper_edge_ns(bucket), self.max_ns)


def to_ns(milliseconds: float) -> int:
    """Milliseconds in whole nanoseconds; what is no duration (NaN, infinite, negative) is 0.

    >>> to_ns(1.5), to_ns(float("nan")), to_ns(-1.0)
    (1500000, 0, 0)
    """
    return round(milliseconds * 1e6) if 0.0 <= milliseconds < math.inf else 0
