"""float32 vectors that are others of the file times a constant: scales of biases, minima and maxima of ranges."""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.encode.chain import ENDS
from edgekit.encode.describing import sequence_grid
from edgekit.encode.describing_numbers import line_of
from edgekit.encode.lines import Line
from edgekit.encode.numbers import I64, write_bits
from edgekit.encode.parts import Array, Description, EvenArray, LineArray, Part
from edgekit.encode.pieces import END_ANYWHERE, END_WITHIN, ENDS_NEAR, MAX_ELEMENTS, Ends, Scaled
from edgekit.encode.restoring import EndPlaces, scale
from edgekit.encode.tables import MAX_LEVELS
from edgekit.encode.tensors import TensorBytes

_MOST_CANDIDATES = 256
_MOST_ELEMENTS = 1 << 16
_CLOSE = 1e-6
_EVERYTHING = (1 << 32) - 1
_NEAR_RATIOS = range(-3, 4)


class Vectors:
    """Remembers the float vectors of a file and finds, for each, an earlier one it follows from.

    Args:
        content: The file.
        tensors: What lies in it.
    """

    def __init__(self, content: bytes, tensors: Sequence[TensorBytes]) -> None:
        self._content = content
        self._weights = {one.name: one for one in tensors if one.role == "tensor" and one.element == "i8"}
        self._scales = {one.name: one for one in tensors if one.role == "scale"}
        self._seen: dict[int, list[int]] = {}

    def describe(self, offset: int, length: int) -> Description | None:
        """How the vector at an offset follows from an earlier one of its length; None when from none.

        Args:
            offset: Where it lies.
            length: Its bytes.
        """
        if length > 4 * _MOST_ELEMENTS:
            return None
        vector = self._read(offset, length)
        seen = self._seen.setdefault(length, [])
        found: Description | None = None
        for other in reversed(seen[-_MOST_CANDIDATES:]):
            found = _describe(vector, self._read(other, length), other)
            if found is not None:
                break
        else:
            seen.append(offset)  # what follows from another need not be looked at again: the other does
        return found

    def describe_ends(self, vector: TensorBytes) -> Description | None:
        """How minima or maxima follow from scales and weights that lie before them; None when they do not."""
        weights, scales = self._weights.get(vector.name), self._scales.get(vector.name)
        if vector.role not in {"minimum", "maximum"} or weights is None or scales is None or len(weights.shape) < 2:
            return None
        (count,) = vector.shape
        before = max(weights.offset + weights.length, scales.offset + scales.length) <= vector.offset
        if not before or scales.length != vector.length or weights.length > MAX_ELEMENTS:
            return None
        if weights.shape[0] != count and weights.shape[-1] != count:
            return None
        return self._ends(vector, weights, scales)

    def _ends(self, vector: TensorBytes, weights: TensorBytes, scales: TensorBytes) -> Description | None:
        is_inner = weights.shape[0] != vector.shape[0]
        is_minimum = vector.role == "minimum"
        place = (weights.offset, weights.length, is_inner)
        piece = Ends(0, vector.length, scales.offset, is_minimum, *place, None, None)
        content = self._content[weights.offset : weights.offset + weights.length]
        places = EndPlaces(self._read(scales.offset, scales.length), content, piece)
        patterns = self._read(vector.offset, vector.length).view(np.uint32).astype(np.int64)
        difference = patterns - (places.full & _EVERYTHING)
        inside = patterns - (places.low | places.sign)
        levels = np.where((inside >= 0) & (inside < places.count), END_WITHIN, END_ANYWHERE)
        levels = np.where(np.abs(difference) <= ENDS_NEAR, difference + ENDS_NEAR, levels)
        if np.count_nonzero(levels == END_ANYWHERE) * 2 > levels.size:
            return None
        parts: list[Part] = []
        lines: list[Line | None] = []
        for is_full in (True, False):
            chosen = levels[places.is_full == is_full]
            lines.append(line_of(chosen) if chosen.size else None)
            if chosen.size:
                line = line_of(chosen)
                parts.append(LineArray((ENDS, int(is_full), 0), line, (chosen - line.first).astype(np.uint8)))
        within, anywhere = levels == END_WITHIN, levels == END_ANYWHERE
        parts.append(EvenArray(inside[within], places.count[within]))
        rest = patterns[anywhere]
        parts.append(write_bits(rest.astype(np.uint64), np.full(rest.size, 32, dtype=np.int64)))
        return Description(msgspec.structs.replace(piece, full=lines[0], rest=lines[1]), tuple(parts))

    def _read(self, offset: int, length: int) -> npt.NDArray[Any]:
        return np.frombuffer(self._content[offset : offset + length], dtype="<f4")


def _describe(vector: npt.NDArray[Any], other: npt.NDArray[Any], offset: int) -> Description | None:
    ratio = _ratio(vector, other)
    if ratio is None:
        return None
    patterns = vector.view(np.int32).astype(np.int64)
    tried: list[tuple[int, int, I64]] = []
    for step in _NEAR_RATIOS:
        bits = ratio + step
        difference = patterns - scale(other, bits)
        tried.append((int(np.count_nonzero(difference)), bits, difference))
    _, bits, difference = min(tried, key=lambda one: one[0])
    low = int(difference.min())
    if int(difference.max()) - low >= MAX_LEVELS // 2 or abs(low) >= MAX_LEVELS // 2:
        return None
    levels = (difference - low).astype(np.uint8)
    grid = sequence_grid(levels, low)
    piece = Scaled(0, 4 * vector.size, offset, bits, low, grid)
    return Description(piece, (Array("differences", grid, levels[None]),))


def _ratio(vector: npt.NDArray[Any], other: npt.NDArray[Any]) -> int | None:
    """Bits of the float32 that takes the one vector to the other, or None when none does."""
    usable = np.isfinite(vector) & np.isfinite(other) & (other != 0) & (vector != 0)
    if np.count_nonzero(usable) * 2 < vector.size:
        return None
    probe = np.flatnonzero(usable)[:2]
    first = vector[probe].astype(np.float64) / other[probe].astype(np.float64)
    if abs(first[0] - first[-1]) > _CLOSE * abs(first[0]):
        return None
    ratios = vector[usable].astype(np.float64) / other[usable].astype(np.float64)
    middle = float(np.median(ratios))
    if np.abs(ratios - middle).max() > _CLOSE * abs(middle):
        return None
    with np.errstate(all="ignore"):
        single = np.array([middle], dtype=np.float32)
    bits = int(single.view(np.uint32)[0])
    return bits if np.isfinite(single[0]) and 8 <= bits % (1 << 31) <= 0x7F000000 else None
