"""Streaming histograms of activations: constant memory, and the same result in whatever batches the values come.

Bins are `[k * 2**e, (k + 1) * 2**e)` for whole k: their width is a power of two and one edge is always zero. When a
value falls outside, the width doubles and bins merge in pairs. Since every state is such an aligned grid, and doubling
happens only when the range so far demands it, the final bins depend on the values alone, not on their order; for the
same reason two histograms merge without error (`merge`), which grids shared by several activations need.

Exact zeros are counted apart: ReLU makes many, every grid holds zero exactly, and in a bin they would pass for values
spread over it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import QuantizationError

NUM_BINS = 2048
"""At most this many bins, at least half of them spanning the values: 4 to 8 bins per step of an int8 grid."""

_SMALLEST_EXPONENT = -140
"""Bins never get narrower: float32 has no values to tell apart there."""

_CHUNK = 1 << 18
"""Values binned at once: keeps the temporary arrays in the cache and the memory constant."""

MAX_SAMPLE = 1 << 15
"""Values of one picture that are binned; of larger maps every k-th value stands for k of them."""


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Distribution of one activation (or several that share a grid).

    Args:
        exponent: Bins are 2**exponent wide.
        first: Index k of the first bin, which starts at k * 2**exponent.
        counts: int64 [NUM_BINS], values other than zero.
        num_zeros: Values that are exactly zero.
        lowest: Smallest value seen.
        highest: Largest value seen.
    """

    exponent: int
    first: int
    counts: npt.NDArray[np.int64]
    num_zeros: int
    lowest: float
    highest: float

    @property
    def num_values(self) -> int:
        """All values seen."""
        return int(self.counts.sum()) + self.num_zeros

    @property
    def zero_bin(self) -> int:
        """Position of the bin that starts at zero."""
        return -self.first

    def borders(self) -> npt.NDArray[np.float64]:
        """Where bins start and end, [NUM_BINS + 1], cut to `lowest..highest`.

        The cut matters for the peaks that a clipped activation has at its end (all the sixes of a ReLU6): they are
        a point, not values spread over the last bin.
        """
        index = self.first + np.arange(NUM_BINS + 1)
        return np.clip(np.ldexp(index.astype(np.float64), self.exponent), self.lowest, self.highest)


class HistogramObserver:
    """Builds a `Histogram` batch by batch.

    Args:
        name: Activation, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lowest = math.inf
        self._highest = -math.inf
        self._exponent = _SMALLEST_EXPONENT
        self._first = 0
        self._counts = np.zeros(NUM_BINS, dtype=np.int64)
        self._num_zeros = 0

    def update(self, values: npt.NDArray[np.floating]) -> None:
        """Count the values of one batch.

        The smallest and largest value are those of the whole batch; of maps with more than `MAX_SAMPLE` values per
        picture only every k-th is binned, and counts k times.

        Args:
            values: [n, ...], one entry per picture.

        Raises:
            QuantizationError: A value is NaN or infinite; names the activation.
        """
        if values.size == 0:
            return
        lowest, highest = float(values.min()), float(values.max())
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise QuantizationError(
                f"activation {self.name}: expected finite values, got {_first_bad(values)} in a calibration batch",
                hint="the float model overflows, or a calibration picture is not normalized as in training",
            )
        self._lowest, self._highest = min(self._lowest, lowest), max(self._highest, highest)
        self._widen()
        stride = _sampling_stride(values.shape)
        sample = values.reshape(values.shape[0], -1)[:, ::stride].reshape(-1)
        for start in range(0, sample.size, _CHUNK):
            self._count(sample[start : start + _CHUNK], stride)

    def finish(self) -> Histogram:
        """What was seen.

        Raises:
            QuantizationError: Nothing was.
        """
        if self._lowest > self._highest:
            raise QuantizationError(
                f"activation {self.name}: no calibration values", hint="give at least one calibration picture"
            )
        return Histogram(
            exponent=self._exponent,
            first=self._first,
            counts=self._counts.copy(),
            num_zeros=self._num_zeros,
            lowest=self._lowest,
            highest=self._highest,
        )

    def _count(self, values: npt.NDArray[np.floating], weight: int) -> None:
        inverse = math.ldexp(1.0, -self._exponent)
        # A product with a power of two is exact, so float32 will do wherever that power is a normal number of it.
        factor = np.float32(inverse) if 1e-37 < inverse < 1e37 else np.float64(inverse)
        scaled = values * factor
        if factor < 1:  # or nearly: a negative value too small for its quotient still lies left of zero
            scaled[(scaled == 0) & (values < 0)] = -1
        index = np.floor(scaled).astype(np.int32) - self._first
        num_zeros = int(values.size - np.count_nonzero(values)) * weight
        self._counts += np.bincount(index, minlength=NUM_BINS) * weight
        self._counts[-self._first] -= num_zeros
        self._num_zeros += num_zeros

    def _widen(self) -> None:
        """Make the bins span zero and everything seen."""
        exponent, first = _aligned_range(self._lowest, self._highest, self._exponent)
        self._counts = _rebin(self._counts, self._first, first, exponent - self._exponent)
        self._exponent, self._first = exponent, first


def merge(histograms: Iterable[Histogram]) -> Histogram:
    """The histogram of all values of several, exactly as one observer of all would have it.

    Args:
        histograms: At least one.
    """
    parts = list(histograms)
    lowest = min(part.lowest for part in parts)
    highest = max(part.highest for part in parts)
    exponent, first = _aligned_range(lowest, highest, max(part.exponent for part in parts))
    counts = sum(_rebin(part.counts, part.first, first, exponent - part.exponent) for part in parts)
    return Histogram(
        exponent=exponent,
        first=first,
        counts=np.asarray(counts, dtype=np.int64),
        num_zeros=sum(part.num_zeros for part in parts),
        lowest=lowest,
        highest=highest,
    )


def _aligned_range(lowest: float, highest: float, exponent: int) -> tuple[int, int]:
    """Smallest exponent, not below the given one, at which NUM_BINS bins span zero and the range; and the first bin.

    The first bin is the one of the lowest value (0 if none is negative), so it too depends on the range alone.
    """
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    span = highest - lowest
    if span > 0:
        exponent = max(exponent, math.frexp(span)[1] - NUM_BINS.bit_length())
    while True:
        first = math.floor(math.ldexp(lowest, -exponent))
        if math.floor(math.ldexp(highest, -exponent)) - first < NUM_BINS:
            return exponent, first
        exponent += 1


def _rebin(counts: npt.NDArray[np.int64], first: int, new_first: int, num_doublings: int) -> npt.NDArray[np.int64]:
    """Counts of bins 2**num_doublings as wide that start at bin `new_first` of that width."""
    used = np.flatnonzero(counts)
    if num_doublings == 0 and first == new_first:
        return counts
    moved = np.zeros(NUM_BINS, dtype=np.int64)
    target = ((first + used) >> min(num_doublings, 62)) - new_first
    np.add.at(moved, target, counts[used])
    return moved


def _sampling_stride(shape: tuple[int, ...]) -> int:
    """Every how many-th value of a picture is binned: coprime to the row length, so that no column is left out."""
    size = math.prod(shape[1:])
    stride = -(-size // MAX_SAMPLE)
    while math.gcd(stride, shape[-1]) > 1:
        stride += 1
    return max(stride, 1)


def _first_bad(values: npt.NDArray[np.floating]) -> float:
    return float(values[~np.isfinite(values)].flat[0])
