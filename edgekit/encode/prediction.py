"""float32 vectors that are others of the file times a constant: scales of biases, minima and maxima of ranges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.encode.describing import Array, Description, sequence_grid
from edgekit.encode.numbers import I64
from edgekit.encode.pieces import Scaled
from edgekit.encode.restoring import scale
from edgekit.encode.tables import MAX_LEVELS

_MOST_CANDIDATES = 256
_MOST_ELEMENTS = 1 << 16
_CLOSE = 1e-6
_NEAR_RATIOS = range(-3, 4)


class Vectors:
    """Remembers the float vectors of a file and finds, for each, an earlier one it follows from.

    Args:
        content: The file.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
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

    def _read(self, offset: int, length: int) -> npt.NDArray[np.float32]:
        return np.frombuffer(self._content[offset : offset + length], dtype="<f4")


def _describe(vector: npt.NDArray[np.float32], other: npt.NDArray[np.float32], offset: int) -> Description | None:
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


def _ratio(vector: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> int | None:
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
