"""Descriptions of numbers of many values: logarithms and raw bits."""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.encode.chain import DISTANCES, PLACES
from edgekit.encode.lines import Line
from edgekit.encode.numbers import I64, U64, bucket_integers, write_bits
from edgekit.encode.parts import Description, LineArray, Part
from edgekit.encode.pieces import POLE_REACH, Numbers, Pole
from edgekit.encode.restoring import line_key
from edgekit.encode.tables import MAX_LEVELS

_LEADING = 2
"""Bits after the highest that count towards a level, where there are few enough levels."""

_POLE = 1 << 30
_POLE_SHARE = 8
"""A pole is worth its description when an eighth of the integers lie there."""


def line_of(levels: npt.NDArray[Any]) -> Line:
    """The line of some levels."""
    first = int(levels.min(initial=MAX_LEVELS)) if levels.size else 0
    return Line(int(levels.size), first, int(levels.max(initial=first)) - first + 1)


def describe_integers(values: I64, item_bytes: int) -> list[Description]:
    """Logarithms and raw bits; empty when there are too many.

    Args:
        values: Any, in 64 bits.
        item_bytes: Bytes of an element in the file.
    """
    if int(values.min()) == -(1 << 63):
        return []
    places, pole, parts = _pole_of(values)
    others = np.abs(values[~places])
    for shift in range(_LEADING, -1, -1):
        levels, low, widths = bucket_integers(others, shift)
        line = line_of(levels)
        if not levels.size or line.num_levels > MAX_LEVELS:
            continue
        piece = Numbers(0, values.size * item_bytes, item_bytes, False, bool(values.min() < 0), shift, line, pole)
        coded = LineArray(line_key(piece), line, (levels - line.first).astype(np.uint8))
        signs = write_bits((values < 0).astype(np.uint64), np.full(values.size, int(piece.is_signed)))
        flags, distances = parts[:1], parts[1:]
        return [Description(piece, (*flags, coded, write_bits(low, widths), *distances, signs))]
    return []


def _pole_of(values: I64) -> tuple[npt.NDArray[np.bool_], Pole | None, tuple[Part, ...]]:
    """Integers at 2**30, where converters cut biases off."""
    distances = np.abs(values) - _POLE
    nowhere = np.zeros(values.size, dtype=np.bool_)
    near = np.abs(distances) < _POLE >> 16
    unit = max(1, int(np.gcd.reduce(distances[near]))) if near.any() else 1
    places = near & (np.abs(distances) < POLE_REACH * unit)
    count = np.count_nonzero(places)
    if count * _POLE_SHARE < values.size or count == values.size:
        return nowhere, None, ()
    flags, levels = places.astype(np.uint8), distances[places] // unit + POLE_REACH
    lines = (Line(values.size, 0, 2), line_of(levels))
    coded = LineArray((DISTANCES, 0, 0), lines[1], (levels - lines[1].first).astype(np.uint8))
    return places, Pole(_POLE, unit, *lines), (LineArray((PLACES, 0, 0), lines[0], flags), coded)


def describe_floats(patterns: U64, bits: int, mantissa: int) -> list[Description]:
    """Exponents, with leading bits of the mantissa, and raw bits; empty when there are too many.

    Args:
        patterns: Bit patterns.
        bits: Of an element.
        mantissa: Bits of its mantissa.
    """
    negative = patterns >> np.uint64(bits - 1)
    magnitude = patterns & np.uint64((1 << (bits - 1)) - 1)
    is_signed = bool(negative.any())
    for shift in range(max(0, mantissa - _LEADING), bits - 1):
        levels = (magnitude >> np.uint64(shift)).astype(np.int64)
        line = line_of(levels)
        if line.num_levels > MAX_LEVELS:
            continue
        piece = Numbers(0, patterns.size * bits // 8, bits // 8, True, is_signed, shift, line)
        low = write_bits(magnitude & np.uint64((1 << shift) - 1), np.full(levels.size, shift))
        coded = LineArray(line_key(piece), line, (levels - line.first).astype(np.uint8))
        return [Description(piece, (coded, low, write_bits(negative, np.full(levels.size, int(is_signed)))))]
    return []
