"""Sequences of ordered levels (logarithms of scales, of biases) through the lanes, for arrays of a hundred elements.

Where `grids` learns from thousands of symbols, a line learns after 16, then after 32 and so on, and a symbol that was
seen makes its neighbours more likely too. Levels are absolute, so that arrays of a family share what they learn.
"""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.encode.grids import Coded
from edgekit.encode.lanes import PROBABILITY_BITS, PROBABILITY_TOTAL, U16, U32, LaneDecoder

U8: TypeAlias = npt.NDArray[np.uint8]
I64: TypeAlias = npt.NDArray[np.int64]

MAX_UNIFORM_BITS = 12
"""Bits of an even choice that go through the lanes; the rest of a larger one is raw bits."""

MAX_LINE_LEVELS = 1 << 14
_FIRST_STEP = 16
_INCREMENT = 3200
_START = 16
"""What a level weighs before anything was seen: a two-hundredth of a symbol."""

_REMEMBERED = 16
"""Symbols that the arrays before weigh together."""

_RADIUS = 4
_TRIANGLE: I64 = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1], dtype=np.int64) * (_INCREMENT // 25)


class Line(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How a sequence of levels is coded.

    Args:
        size: Elements.
        first: Lowest level that occurs, on the family's scale.
        num_levels: Levels from there on, 1 to 256; an array of one level takes no space.
    """

    size: int
    first: int
    num_levels: int


class Curve:
    """What a family of lines has seen: how often each level, on a scale of `MAX_LINE_LEVELS` (as far as it is used).

    Args:
        is_smooth: Whether a symbol makes its neighbours more likely.
    """

    def __init__(self, *, is_smooth: bool) -> None:
        self._is_smooth = is_smooth
        self._weights: I64 = np.empty(0, dtype=np.int64)

    def fade(self, line: Line) -> None:
        """Before a line: let what was seen weigh no more than `_REMEMBERED` symbols within its levels."""
        missing = line.first + line.num_levels + 2 * _RADIUS - self._weights.size
        if missing > 0:
            self._weights = np.append(self._weights, np.full(missing, _START, dtype=np.int64))
        window = self._window(line)
        total = int(window.sum())
        limit = _REMEMBERED * _INCREMENT
        if total > limit:
            window[:] = window * limit // total + 1

    def learn(self, levels: npt.NDArray[np.integer], line: Line) -> None:
        """Count levels, which begin at the line's first."""
        counts = np.bincount(levels, minlength=line.num_levels)
        if self._is_smooth:
            begin = line.first
            self._weights[begin : begin + line.num_levels + 2 * _RADIUS] += np.convolve(counts, _TRIANGLE)
        else:
            self._window(line)[:] += counts * _INCREMENT

    def frequencies(self, line: Line) -> tuple[U32, U32]:
        """Frequencies of a line's levels, and the sums of those before."""
        weights = self._window(line)
        freqs = weights * (PROBABILITY_TOTAL - line.num_levels) // int(weights.sum()) + 1  # as `tables.frequencies`
        freqs[weights.argmax()] += PROBABILITY_TOTAL - int(freqs.sum())
        return freqs.astype(np.uint32), (freqs.cumsum() - freqs).astype(np.uint32)

    def save(self) -> I64:
        """Remember the state, for `restore`."""
        return self._weights.copy()

    def restore(self, saved: I64) -> None:
        """Go back to a state from `save`."""
        self._weights = saved.copy()

    def _window(self, line: Line) -> I64:
        begin = _RADIUS + line.first
        return self._weights[begin : begin + line.num_levels]


def encode_line(levels: U8, line: Line, curve: Curve, num_lanes: int) -> Coded:
    """Model a sequence of levels, counted from the line's first; the curve learns."""
    curve.fade(line)
    freqs: list[U16] = []
    starts: list[U16] = []
    sizes: list[int] = []
    for begin, end in _steps(line.size, num_lanes):
        chunk = levels[begin:end]
        freq, start = curve.frequencies(line)
        freqs.append(freq.take(chunk).astype(np.uint16))
        starts.append(start.take(chunk).astype(np.uint16))
        sizes.append(end - begin)
        curve.learn(chunk, line)
    return Coded(np.concatenate(freqs), np.concatenate(starts), sizes)


def decode_line(line: Line, curve: Curve, decoder: LaneDecoder, num_lanes: int) -> U8:
    """The levels again. Raises `IntegrityError` when the words run out."""
    curve.fade(line)
    levels = np.empty(line.size, dtype=np.uint8)
    for begin, end in _steps(line.size, num_lanes):
        freqs, starts = curve.frequencies(line)
        low = decoder.peek(end - begin)
        chunk = np.searchsorted(starts, low, side="right") - 1
        decoder.advance(low, freqs.take(chunk), starts.take(chunk))
        levels[begin:end] = chunk
        curve.learn(chunk, line)
    return levels


def encode_even(values: I64, counts: I64, num_lanes: int) -> tuple[Coded, I64, I64]:
    """Numbers that are equally likely below a count each.

    Args:
        values: At least 0, below their counts.
        counts: At least 1.
        num_lanes: Lanes of the coder.

    Returns:
        What the lanes code; the raw bits of every value and how many there are.
    """
    widths = even_widths(counts)
    totals = _high_counts(counts, widths)
    high = values >> widths
    starts = _even_start(high, totals)
    freqs = _even_start(high + 1, totals) - starts
    sizes = [min(num_lanes, values.size - begin) for begin in range(0, values.size, num_lanes)]
    return Coded(freqs.astype(np.uint16), starts.astype(np.uint16), sizes), values & ((1 << widths) - 1), widths


def decode_even(counts: I64, decoder: LaneDecoder, num_lanes: int) -> I64:
    """The numbers again, without their raw bits (0 in their place). Raises `IntegrityError` when the words run out."""
    widths = even_widths(counts)
    totals = _high_counts(counts, widths)
    high = np.empty(counts.size, dtype=np.int64)
    for begin in range(0, counts.size, num_lanes):
        part = totals[begin : begin + num_lanes]
        low = decoder.peek(part.size)
        chunk = low.astype(np.int64) * part >> PROBABILITY_BITS
        starts = _even_start(chunk, part)
        decoder.advance(low, (_even_start(chunk + 1, part) - starts).astype(np.uint32), starts.astype(np.uint32))
        high[begin : begin + part.size] = chunk
    return high << widths


def even_widths(counts: I64) -> I64:
    """Raw bits of an even choice from each count."""
    exponent = np.frexp(np.maximum(counts - 1, 1).astype(np.float64))[1].astype(np.int64)
    return np.maximum(exponent - MAX_UNIFORM_BITS, 0)


def _high_counts(counts: I64, widths: I64) -> I64:
    return ((counts - 1) >> widths) + 1


def _even_start(values: I64, counts: I64) -> I64:
    return (values * PROBABILITY_TOTAL + counts - 1) // counts


def _steps(size: int, num_lanes: int) -> Iterator[tuple[int, int]]:
    """Steps that double: 16 symbols, 16, 32, and so on up to all lanes."""
    begin = 0
    while begin < size:
        end = min(size, begin + min(num_lanes, max(_FIRST_STEP, begin)))
        yield begin, end
        begin = end
