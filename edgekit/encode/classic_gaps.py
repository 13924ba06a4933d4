"""Relative indexing of a sparse layer: how far a stored weight is from the one before (Han et al. 2016, figure 2)."""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import IntegrityError

Indices: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
U8: TypeAlias = npt.NDArray[np.uint8]

_CHUNK = 1 << 16


def relative_index(indices: Indices, zero: int, gap_bits: int) -> tuple[Indices, U8]:
    """The weights that are stored, fillers among them, and the zeros skipped before each.

    A position is the one before plus gap plus 1, starting from -1. Where the next weight is further away than
    2**gap_bits, a filler stands at that distance: the symbol of zero, with the largest gap. Zeros at the end are not
    stored.

    Args:
        indices: [weights], flat.
        zero: Index of the centroid 0.0.
        gap_bits: Bits of a gap, 1 to 8.

    Returns:
        Symbols and gaps, [stored] both.

    >>> indices = np.zeros(30, dtype=np.uint8)
    >>> indices[[1, 4, 15]] = 3, 1, 2
    >>> [part.tolist() for part in relative_index(indices, 0, gap_bits=3)]
    [[3, 1, 0, 2], [1, 2, 7, 2]]
    """
    reach = 1 << gap_bits
    positions = np.flatnonzero(indices != zero)
    skipped = np.diff(positions, prepend=-1) - 1
    last = np.cumsum(skipped // reach + 1) - 1
    num_stored = int(last[-1]) + 1 if last.size else 0
    symbols = np.full(num_stored, zero, dtype=indices.dtype)
    gaps = np.full(num_stored, reach - 1, dtype=np.uint8)
    symbols[last] = indices[positions]
    gaps[last] = skipped % reach
    return symbols, gaps


def place_symbols(indices: Indices, symbols: Indices, gaps: Indices, place: str) -> None:
    """The inverse of `relative_index`, into indices that are all zero's.

    Args:
        indices: [weights], written to.
        symbols: [stored].
        gaps: [stored].
        place: What to call the layer in an error.

    Raises:
        IntegrityError: The gaps lead out of the layer.
    """
    position = -1
    for begin in range(0, symbols.size, _CHUNK):
        end = begin + _CHUNK
        positions = position + np.cumsum(gaps[begin:end].astype(np.int64) + 1)
        position = int(positions[-1])
        if position >= indices.size:
            raise IntegrityError(
                f"{place}: the gaps lead to weight {position} of {indices.size}", hint="get the file again"
            )
        indices[positions] = symbols[begin:end]
