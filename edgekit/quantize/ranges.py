"""From the histogram of an activation to the grid it gets.

Every grid is asymmetric int8 with zero exactly on it (Jacob et al. 2018, section 2.1): zero padding must not shift
anything. `real = scale * (q - zero_point)`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.quant import QuantParams
from edgekit.quantize.histogram import Histogram

RangeMethod: TypeAlias = Literal["minmax", "percentile", "mse"]

SMALLEST_SCALE = 2.0**-100
"""Below it, products of scales leave float32."""

_LEVELS = 255
"""Steps of an int8 grid."""

_NUM_CANDIDATES = 40
"""Ends that one pass of the MSE search tries."""

_SMALLEST_SHARE = 0.01
"""The MSE search cuts no side to less than this share of its reach."""


def grid_of_range(lowest: float, highest: float, num_bits: int = 8) -> QuantParams:
    """The asymmetric grid that spans a range and holds zero exactly.

    The range is widened to hold zero; an empty one (all values zero) gets scale 1.

    >>> grid = grid_of_range(0.0, 6.0)
    >>> round(float(grid.scale[0]) * 255, 5), int(grid.zero_point[0])
    (6.0, -128)
    """
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    levels = (1 << num_bits) - 1
    qmin = -(1 << (num_bits - 1))
    scale = max((highest - lowest) / levels, SMALLEST_SCALE) if highest > lowest else 1.0
    zero_point = qmin + round(-lowest / scale)
    return QuantParams(
        scale=np.array([scale], dtype=np.float32),
        zero_point=np.array([min(max(zero_point, qmin), qmin + levels)], dtype=np.int32),
        num_bits=num_bits,
    )


def choose_grid(histogram: Histogram, method: RangeMethod, *, percentile: float = 99.99) -> QuantParams:
    """The int8 grid of an activation.

    - minmax: everything seen is on the grid.
    - percentile: the central `percentile` percent of the values are; the tails saturate.
    - mse: the range of least mean squared error, rounding and saturation together.
    """
    lowest, highest = min(histogram.lowest, 0.0), max(histogram.highest, 0.0)
    if method == "percentile":
        lowest, highest = _percentile_range(histogram, percentile)
    elif method == "mse":
        lowest, highest = _mse_range(histogram)
    return grid_of_range(lowest, highest)


def expected_error(
    histogram: Histogram, lowest: npt.NDArray[np.float64], highest: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Mean squared error of the int8 grids that span the ranges lowest..highest, [num_ranges].

    Values are taken as spread evenly over their bin, so the error of a bin is an integral with a closed form, exact
    however wide the bin is beside the step.

    Args:
        histogram: The values.
        lowest: Lower ends, [num_ranges], at most 0.
        highest: Upper ends, [num_ranges], at least 0; no range may be empty.
    """
    used = np.flatnonzero(histogram.counts)
    if used.size == 0:
        return np.zeros(lowest.shape)
    bins = slice(used[0], used[-1] + 1)
    borders = histogram.borders()[used[0] : used[-1] + 2]
    scale = ((highest - lowest) / _LEVELS)[:, None]
    first_step = -np.rint(-lowest[:, None] / scale)
    steps = borders / scale
    nearest = np.clip(np.rint(steps), first_step, first_step + _LEVELS)
    off = steps - nearest
    # Integral from 0 to t of (t - nearest grid point)**2: a whole step gives 1/12, the rest of the way is a cube, and
    # beyond the last grid point the same cube goes on: that is saturation.
    integral = nearest / 12.0 + off * off * off / 3.0  # numpy takes a hundred times as long for **3
    width = np.diff(steps, axis=1)
    spread = np.diff(integral, axis=1) / np.where(width > 0, width, 1.0)
    mean_squares = np.where(width > 0, spread, np.square(off[:, :-1]))
    total = (mean_squares * scale**2) @ histogram.counts[bins]
    return total / histogram.num_values


def _percentile_range(histogram: Histogram, percentile: float) -> tuple[float, float]:
    """Ends between which `percentile` percent of the values lie, as many cut below as above.

    Tails are counted over all values, zeros included. A side without values stays at zero.
    """
    tail = (1.0 - percentile / 100.0) / 2.0 * histogram.num_values
    counts = histogram.counts.copy()
    counts[histogram.zero_bin] += histogram.num_zeros
    borders = histogram.borders()
    first = int(np.argmax(np.cumsum(counts) > tail))
    last = counts.size - 1 - int(np.argmax(np.cumsum(counts[::-1]) > tail))
    return min(float(borders[first]), 0.0), max(float(borders[last + 1]), 0.0)


def _mse_range(histogram: Histogram) -> tuple[float, float]:
    """The range of least squared error: search along one end, then the other, then both again more finely."""
    full = (min(histogram.lowest, 0.0), max(histogram.highest, 0.0))
    if full[1] - full[0] <= _LEVELS * SMALLEST_SCALE:
        return full
    best = full
    for step in (1.0, 0.1, 0.01):
        for side in (1, 0) if min(-full[0], full[1]) > 0 else (int(full[1] > 0),):
            best = _best_end(histogram, full, best, side, step)
    return best


def _best_end(
    histogram: Histogram, full: tuple[float, float], current: tuple[float, float], side: int, step: float
) -> tuple[float, float]:
    """The best range when one end (side 0 or 1) moves by up to `step`, a share of its full reach, never beyond it."""
    share = current[side] / full[side]
    shares = np.linspace(max(share - step, _SMALLEST_SHARE), min(share + step, 1.0), _NUM_CANDIDATES)
    ranges = np.array([current] * (_NUM_CANDIDATES + 1))
    ranges[:-1, side] = shares * full[side]
    errors = expected_error(histogram, ranges[:, 0], ranges[:, 1])
    lowest, highest = ranges[int(np.argmin(errors))]
    return float(lowest), float(highest)
