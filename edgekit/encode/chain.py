"""What lives on from piece to piece of an `.ekz` file: lanes, distributions, raw bits."""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.encode.grids import Grid, Peaks, decode_matrix, decode_sequence
from edgekit.encode.lanes import U32, LaneDecoder
from edgekit.encode.lines import Curve, Line, decode_even, decode_line, even_widths
from edgekit.encode.numbers import I64, BitReader, read_bits
from edgekit.encode.pieces import Family
from edgekit.encode.tables import Tables

U8: TypeAlias = npt.NDArray[np.uint8]

CurveKey: TypeAlias = tuple[str, int, int]
"""Which lines share a curve: a name, and two numbers that decide what a level means."""

Saved: TypeAlias = "tuple[dict[tuple[Family, bool], npt.NDArray[Any]], dict[CurveKey, npt.NDArray[Any]]]"

FLOATS, INTEGERS, PLACES, DISTANCES, ENDS, PEAKS = "floats", "integers", "places", "distances", "ends", "peaks"

_SMOOTH = frozenset({FLOATS, INTEGERS})
"""Lines whose levels are logarithms."""


class Families:
    """The distributions of one chain of sections, made when first asked for."""

    def __init__(self) -> None:
        self._tables: dict[tuple[Family, bool], Tables] = {}
        self._curves: dict[CurveKey, Curve] = {}

    def save(self) -> Saved:
        """Remember the state, for `restore`."""
        tables = {key: one.save() for key, one in self._tables.items()}
        return tables, {key: one.save() for key, one in self._curves.items()}

    def restore(self, saved: Saved) -> None:
        """Go back to a state from `save`; what was made since starts again."""
        tables, curves = saved
        self._tables = {}
        for (family, is_flat), weights in tables.items():
            self._tables[family, is_flat] = Tables(is_flat=is_flat)
            self._tables[family, is_flat].restore(weights)
        self._curves = {}
        for key, weights in curves.items():
            self.curve(key).restore(weights)

    def of(self, family: Family, grid: Grid) -> Tables:
        """Those that an array of a family uses."""
        is_flat = grid.num_contexts == 0
        key = (family, is_flat)
        if key not in self._tables:
            self._tables[key] = Tables(is_flat=is_flat)
        return self._tables[key]

    def curve(self, key: CurveKey) -> Curve:
        """The one that a line uses."""
        if key not in self._curves:
            self._curves[key] = Curve(is_smooth=key[0] in _SMOOTH)
        return self._curves[key]


class Chain:
    """What lives on from section to section.

    Args:
        states: Lanes to start from.
    """

    def __init__(self, states: U32) -> None:
        self.num_lanes = int(states.size)
        self.decoder = LaneDecoder(states)
        self.families = Families()
        self.raw = BitReader(b"")

    def levels(self, family: Family, grid: Grid, peaks: Peaks | None = None) -> U8:
        """Levels of an array, flat, row by row."""
        if grid.num_levels == 1:
            return np.zeros(grid.rows * grid.columns, dtype=np.uint8)
        tables = self.families.of(family, grid)
        if grid.num_contexts:
            return decode_matrix(grid, tables, self.decoder, self.num_lanes, peaks).ravel()
        return decode_sequence(grid, tables, self.decoder, self.num_lanes)

    def line(self, key: CurveKey, line: Line) -> I64:
        """Levels of a line, on its family's scale."""
        if line.num_levels == 1:
            return np.full(line.size, line.first, dtype=np.int64)
        return line.first + decode_line(line, self.families.curve(key), self.decoder, self.num_lanes).astype(np.int64)

    def even(self, counts: I64) -> I64:
        """Numbers that are equally likely below a count each."""
        high = decode_even(counts, self.decoder, self.num_lanes)
        return high | read_bits(self.raw, even_widths(counts)).view(np.int64)
