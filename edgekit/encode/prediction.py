"""float32 vectors that are others of the file times a constant: scales of biases, minima and maxima of ranges."""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.encode.describing import Array, Description, describe_wide, sequence_grid
from edgekit.encode.numbers import I64
from edgekit.encode.pieces import MAX_ELEMENTS, Extremes, Scaled, Wide
from edgekit.encode.restoring import near_integers, scale
from edgekit.encode.tables import MAX_LEVELS
from edgekit.encode.tensors import TensorBytes

_MOST_CANDIDATES = 256
_MOST_ELEMENTS = 1 << 16
_CLOSE = 1e-6
_NEAR = 2
_RATIOS = {"maximum": 0x42FE0000, "minimum": 0xC2FE0000}
"""127.0 and -127.0."""

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

    def describe_extremes(self, vector: TensorBytes) -> Description | None:
        """How minima or maxima follow from scales and weights that lie before them; None when they do not."""
        weights, scales = self._weights.get(vector.name), self._scales.get(vector.name)
        if vector.role not in _RATIOS or weights is None or scales is None or len(weights.shape) < 2:
            return None
        (count,) = vector.shape
        before = max(weights.offset + weights.length, scales.offset + scales.length) <= vector.offset
        if not before or scales.length != vector.length or weights.length > MAX_ELEMENTS:
            return None
        if weights.shape[0] != count and weights.shape[-1] != count:
            return None
        return self._extremes(vector, weights, scales)

    def _extremes(self, vector: TensorBytes, weights: TensorBytes, scales: TensorBytes) -> Description | None:
        ratio = _RATIOS[vector.role]
        patterns = self._read(vector.offset, vector.length).view(np.int32).astype(np.int64)
        factors = self._read(scales.offset, scales.length)
        difference = patterns - scale(factors, ratio)
        is_near = np.abs(difference) <= _NEAR
        if not is_near.any():
            return None
        low = int(difference[is_near].min())
        escape = int(difference[is_near].max()) - low + 1
        levels = np.where(is_near, difference - low, escape).astype(np.uint8)
        grid = sequence_grid(levels, 0)
        is_inner = weights.shape[0] != vector.shape[0]
        place = (weights.offset, weights.length, is_inner)
        piece = Extremes(0, vector.length, scales.offset, ratio, low, grid, *place, None)
        array = Array("differences", grid, levels[None])
        if is_near.all():
            return Description(piece, (array,))
        content = self._content[weights.offset : weights.offset + weights.length]
        others = (patterns - near_integers(factors, content, piece))[~is_near]
        described = describe_wide(others, 8 * others.size, 64)
        if not described or not isinstance(described[0].piece, Wide):
            return None
        piece = msgspec.structs.replace(piece, others=described[0].piece)
        return Description(piece, (array, *described[0].parts))

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
