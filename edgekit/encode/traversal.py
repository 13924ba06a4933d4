"""In which order the weights of a matrix are coded, and what width each is expected to have.

Rows go through in blocks; within a block, column after column, all rows of the block at once (the lanes). The width of
a weight is expected from the magnitudes seen so far: of its row in the columns before, of its column in the blocks
before. So neither row nor column statistics have to be sent.
"""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.encode.lanes import U32
from edgekit.encode.tables import FIRST_OCTAVE, NUM_CONTEXTS, STEPS_PER_OCTAVE

F32: TypeAlias = npt.NDArray[np.float32]
I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]

FIRST_INTERVAL = 2048
LAST_INTERVAL = 65536
_SMALLEST_BLOCK = 8
_FIRST_BLOCKS = 16
_FEWEST_STEPS = 8
_COLUMN_PRIOR_ROWS = 2
_FLOAT_SHIFT = np.uint32(21)
_CONTEXT_ZERO = (127 + FIRST_OCTAVE) * STEPS_PER_OCTAVE


def row_blocks(num_rows: int, num_lanes: int) -> Iterator[tuple[int, int]]:
    """Blocks that double in size, so that the first ones teach the later ones their columns.

    >>> list(row_blocks(100, 1024))
    [(0, 8), (8, 16), (16, 32), (32, 64), (64, 100)]
    """
    begin = 0
    size = min(num_rows, num_lanes, max(_SMALLEST_BLOCK, -(-num_rows // _FIRST_BLOCKS)))
    while begin < num_rows:
        rest = num_rows - begin
        size = min(size, rest, num_lanes)
        if rest - size < size // 2:
            size = min(rest, num_lanes)
        yield begin, begin + size
        begin += size
        size = begin


def columns_per_step(num_rows: int, num_columns: int, num_lanes: int) -> int:
    """Columns that go through in one step: as many as fill the lanes, but not so many that rows learn nothing."""
    return max(1, min(num_lanes // num_rows, num_columns // _FEWEST_STEPS))


class Expectation:
    """How large the magnitudes in a matrix are expected to be.

    Args:
        num_columns: Columns of the matrix.
        magnitude: Mean magnitude, in sixteenths, at least 1.
        row_prior: Columns that a row's own magnitudes are weighed against.
    """

    def __init__(self, num_columns: int, magnitude: int, row_prior: int) -> None:
        self._sums: I64 = np.zeros(num_columns, dtype=np.int64)
        self._num_rows = 0
        self._magnitude = magnitude
        self._row_prior = row_prior

    @property
    def row_start(self) -> int:
        """What a row's sum starts from, in sixteenths."""
        return self._row_prior * self._magnitude

    def factors(self, step: int) -> F32:
        """What a row's sum, in sixteenths, is multiplied by to give the width expected in each column.

        Args:
            step: Columns in a step; the row's sum is of the columns before the step.
        """
        expected = 16 * self._sums + _COLUMN_PRIOR_ROWS * self._magnitude  # of num_rows + 2 rows, in sixteenths
        before: I64 = np.cumsum(expected) - expected
        first = np.arange(expected.size) // step * step
        prior = self.row_start * (self._num_rows + _COLUMN_PRIOR_ROWS)
        weight = (before[first] + prior).astype(np.float64) * 16.0
        return (expected.astype(np.float64) / weight).astype(np.float32)

    def see(self, magnitudes: I32) -> None:
        """Learn a block, [rows, columns]."""
        self._sums += magnitudes.sum(axis=0, dtype=np.int64)
        self._num_rows += magnitudes.shape[0]


def contexts_of(widths: F32) -> I64:
    """The context of every expected width, 0 to `NUM_CONTEXTS` - 1."""
    quarter = (widths.view(np.uint32) >> _FLOAT_SHIFT).astype(np.int64) - _CONTEXT_ZERO
    return np.clip(quarter, 0, NUM_CONTEXTS - 1)


def context_offsets(first_context: int, num_contexts: int, unit: int) -> U32:
    """For the top eleven bits of any float32, (its context - `first_context`) * `unit`, kept within the range."""
    positive = np.clip(np.arange(1024) - _CONTEXT_ZERO - first_context, 0, num_contexts - 1)
    return np.concatenate([positive, positive]).astype(np.uint32) * np.uint32(unit)
