"""A description of a tensor with what has to be coded for it."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.encode.chain import CurveKey
from edgekit.encode.grids import Grid
from edgekit.encode.lines import Line
from edgekit.encode.numbers import I64
from edgekit.encode.pieces import AnyPiece, Family

U8: TypeAlias = npt.NDArray[np.uint8]


class Array(msgspec.Struct, frozen=True):
    """Levels for the lanes, [rows, columns]; and the column of every row's peak where there are peaks."""

    family: Family
    grid: Grid
    levels: U8
    peaks: I64 | None = None


class LineArray(msgspec.Struct, frozen=True):
    """Levels of a line, counted from its first."""

    key: CurveKey
    line: Line
    levels: U8


class EvenArray(msgspec.Struct, frozen=True):
    """Numbers that are equally likely below a count each."""

    values: I64
    counts: I64


Part: TypeAlias = "Array | LineArray | EvenArray | bytes"


class Description(msgspec.Struct, frozen=True):
    """A piece with what has to be coded for it, in the order in which a decoder asks.

    Args:
        piece: With a gap of 0.
        parts: Arrays for the lanes, and raw bytes.
    """

    piece: AnyPiece
    parts: tuple[Part, ...]
