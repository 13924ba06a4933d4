"""Arrays of small integers through the lanes: as a matrix with contexts, or as a plain sequence."""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.encode.lanes import PROBABILITY_BITS, PROBABILITY_TOTAL, U16, U32, LaneDecoder
from edgekit.encode.tables import MAX_LEVELS, NUM_CONTEXTS, Adaptive, Tables, Window
from edgekit.encode.traversal import (
    FIRST_INTERVAL,
    LAST_INTERVAL,
    Expectation,
    columns_per_step,
    context_offsets,
    contexts_of,
    row_blocks,
)

U8: TypeAlias = npt.NDArray[np.uint8]
I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]

_TOP_BITS = np.uint32(21)
_NONE: I64 = np.empty(0, dtype=np.int64)


class Grid(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How an array of levels (0 to `num_levels` - 1) is coded.

    Args:
        rows: Rows of the matrix; 1 for a sequence.
        columns: Columns of it.
        num_levels: Levels, 1 to 256; an array of one level takes no space.
        low: Distance of level 0 from the centre.
        first_context: First width that occurs.
        num_contexts: Widths that occur; 0 for a sequence of a flat family.
        magnitude: Mean distance from the centre, in sixteenths.
        row_prior: How slowly a row is believed to differ.
    """

    rows: int
    columns: int
    num_levels: int
    low: int
    first_context: int = 0
    num_contexts: int = 0
    magnitude: int = 1
    row_prior: int = 4

    @property
    def window(self) -> Window:
        """What it uses of its family's tables."""
        return Window(self.first_context, max(1, self.num_contexts), self.low, self.num_levels)


class Coded(msgspec.Struct, frozen=True):
    """What the lanes have to code for one array, in decoding order.

    Args:
        freqs: Frequency of every symbol.
        starts: Sum of the frequencies before it.
        step_sizes: Symbols in each step.
    """

    freqs: U16
    starts: U16
    step_sizes: list[int]

    @property
    def bits(self) -> float:
        """Size, in bits."""
        return float(PROBABILITY_BITS * self.freqs.size - np.log2(self.freqs.astype(np.float64)).sum())


class _Recorder:
    """Runs the adaptive model over symbols as a decoder will, and notes frequencies."""

    def __init__(self, model: Adaptive) -> None:
        self._model = model
        self._interval = FIRST_INTERVAL
        self._since: list[U16] = []
        self._num_since = 0
        self._freqs: list[U16] = []
        self._starts: list[U16] = []
        self._sizes: list[int] = []

    def add(self, symbols: U16, step: int) -> None:
        """Code symbols in steps of a size (the last may be smaller)."""
        begin = 0
        while begin < symbols.size:
            num_steps = max(1, -(-(self._interval - self._num_since) // step))
            chunk = symbols[begin : begin + num_steps * step]
            self._freqs.append(self._model.freqs.take(chunk).astype(np.uint16))
            self._starts.append(self._model.starts.take(chunk).astype(np.uint16))
            full, rest = divmod(chunk.size, step)
            self._sizes += [step] * full + [rest] * (rest > 0)
            self._since.append(chunk)
            self._num_since += chunk.size
            begin += chunk.size
            if self._num_since >= self._interval:
                self.learn()

    def learn(self) -> None:
        """Let the model learn what came since it last did."""
        if self._num_since:
            self._model.learn(np.concatenate(self._since))
        self._since, self._num_since = [], 0
        self._interval = min(2 * self._interval, LAST_INTERVAL)

    def finish(self) -> Coded:
        """Learn the rest; everything noted."""
        self.learn()
        return Coded(np.concatenate(self._freqs), np.concatenate(self._starts), self._sizes)


def encode_sequence(levels: U8, grid: Grid, tables: Tables, num_lanes: int) -> Coded:
    """Model a sequence in one context. `levels` is flat; the tables learn."""
    tables.fade()
    recorder = _Recorder(Adaptive(tables, grid.window, with_slots=False))
    recorder.add(levels.astype(np.uint16), num_lanes)
    return recorder.finish()


class Peaks:
    """The cell of every row that is known before the others, one at most, and so takes no space among them.

    What it adds to the magnitudes of its row and column is what was expected of it: a row that was scaled to its
    largest weight says nothing of its width by that weight.

    Args:
        columns: Column of every row's cell; the number of columns where there is none.
    """

    def __init__(self, columns: I64) -> None:
        self._columns = columns

    def block(self, begin: int, end: int, num_columns: int) -> tuple[I64, I64]:
        """The rows of a block that have such a cell, counted from its first, and the cells' columns; by column."""
        columns = self._columns[begin:end]
        rows = np.argsort(columns, kind="stable")
        rows = rows[: np.count_nonzero(columns < num_columns)]
        return rows, columns[rows]


def widths_of(levels: U8, grid: Grid, num_lanes: int, peaks: Peaks | None = None) -> list[I64]:
    """The context of every level in each row block, [rows, columns] each; `NUM_CONTEXTS` where it is known."""
    expectation = Expectation(grid.columns, grid.magnitude, grid.row_prior)
    contexts: list[I64] = []
    for begin, end in row_blocks(grid.rows, num_lanes):
        step = columns_per_step(end - begin, grid.columns, num_lanes)
        magnitudes = np.abs(levels[begin:end].astype(np.int32) + grid.low)
        rows, columns = (_NONE, _NONE) if peaks is None else peaks.block(begin, end, grid.columns)
        magnitudes[rows, columns] = 0
        before = np.cumsum(magnitudes, axis=1, dtype=np.int32) - magnitudes
        first = np.arange(grid.columns) // step * step
        sums = 16 * before[:, first] + np.int32(expectation.row_start)
        factors = expectation.factors(step)
        expected = _expected(sums[rows, columns].astype(np.float32) * factors[columns])
        sums[rows] += expected[:, None] * (first[None] > columns[:, None])
        magnitudes[rows, columns] = expected >> 4
        kept = contexts_of(sums.astype(np.float32) * factors)
        kept[rows, columns] = NUM_CONTEXTS
        contexts.append(kept)
        expectation.see(magnitudes)
    return contexts


def _expected(widths: npt.NDArray[np.float32]) -> I32:
    """What known cells of a width add to their row, in sixteenths."""
    return (np.minimum(widths, np.float32(MAX_LEVELS)) * np.float32(16)).astype(np.int32)


def encode_matrix(levels: U8, grid: Grid, tables: Tables, num_lanes: int, peaks: Peaks | None = None) -> Coded:
    """Model a matrix, [rows, columns], with contexts; the tables learn."""
    tables.fade()
    recorder = _Recorder(Adaptive(tables, grid.window, with_slots=False))
    all_contexts = widths_of(levels, grid, num_lanes, peaks)
    for (begin, end), contexts in zip(row_blocks(grid.rows, num_lanes), all_contexts, strict=True):
        step = columns_per_step(end - begin, grid.columns, num_lanes)
        kept = np.clip(contexts - grid.first_context, 0, grid.num_contexts - 1).astype(np.uint16)
        symbols = kept * np.uint16(MAX_LEVELS) + levels[begin:end]
        symbols[contexts == NUM_CONTEXTS] = grid.num_contexts * MAX_LEVELS
        recorder.add(symbols.T.ravel(), step * (end - begin))
    return recorder.finish()


class _Follower:
    """Decodes steps and keeps the adaptive model in step with the encoder's."""

    def __init__(self, decoder: LaneDecoder, model: Adaptive) -> None:
        self.decoder = decoder
        self.model = model
        self._interval = FIRST_INTERVAL
        self._since: list[U16] = []
        self._num_since = 0

    def step(self, offsets: U32) -> U16:
        """One step."""
        model = self.model
        symbols = self.decoder.decode_step(offsets, model.slots, model.freqs, model.starts)
        self._since.append(symbols)
        self._num_since += symbols.size
        if self._num_since >= self._interval:
            self.learn()
        return symbols

    def learn(self) -> None:
        """As `_Recorder.learn`."""
        if self._num_since:
            self.model.learn(np.concatenate(self._since))
        self._since, self._num_since = [], 0
        self._interval = min(2 * self._interval, LAST_INTERVAL)


def decode_sequence(grid: Grid, tables: Tables, decoder: LaneDecoder, num_lanes: int) -> U8:
    """Levels of a sequence, flat. Raises `IntegrityError` when the words run out."""
    tables.fade()
    follower = _Follower(decoder, Adaptive(tables, grid.window, with_slots=True))
    size = grid.rows * grid.columns
    levels = np.empty(size, dtype=np.uint8)
    offsets = np.zeros(num_lanes, dtype=np.uint32)
    for begin in range(0, size, num_lanes):
        count = min(num_lanes, size - begin)
        levels[begin : begin + count] = follower.step(offsets[:count])
    follower.learn()
    return levels


def decode_matrix(grid: Grid, tables: Tables, decoder: LaneDecoder, num_lanes: int, peaks: Peaks | None = None) -> U8:
    """Levels of a matrix, [rows, columns]; 0 where they were known. Raises `IntegrityError` when the words run out."""
    tables.fade()
    follower = _Follower(decoder, Adaptive(tables, grid.window, with_slots=True))
    levels = np.empty((grid.rows, grid.columns), dtype=np.uint8)
    expectation = Expectation(grid.columns, grid.magnitude, grid.row_prior)
    # by symbol, whatever its context: its distance from the centre, in sixteenths; 0 of a known one
    distances = 16 * np.abs(np.arange(MAX_LEVELS, dtype=np.int32) + grid.low)
    distances = np.append(np.tile(distances, grid.num_contexts), np.int32(0))
    offsets_of = context_offsets(grid.first_context, grid.num_contexts, PROBABILITY_TOTAL)
    known = np.uint32(grid.num_contexts * PROBABILITY_TOTAL)
    for begin, end in row_blocks(grid.rows, num_lanes):
        num_rows = end - begin
        step = columns_per_step(num_rows, grid.columns, num_lanes)
        factors = expectation.factors(step)
        sums = np.full(num_rows, expectation.row_start, dtype=np.int32)
        block = np.empty((grid.columns, num_rows), dtype=np.uint8)
        rows, columns = (_NONE, _NONE) if peaks is None else peaks.block(begin, end, grid.columns)
        places = np.searchsorted(columns, np.arange(0, grid.columns + step, step)).tolist()
        expected = np.empty(rows.size, dtype=np.int32)
        for index, (column, last) in enumerate(_spans(grid.columns, step)):
            widths = sums.astype(np.float32) * factors[column:last, None]
            offsets = offsets_of.take(widths.view(np.uint32) >> _TOP_BITS)
            begin_here, end_here = places[index], places[index + 1]
            if begin_here < end_here:
                here = slice(begin_here, end_here)
                cells = (columns[here] - column, rows[here])
                expected[here] = _expected(widths[cells])
                offsets[cells] = known
            symbols = follower.step(offsets.ravel())
            block[column:last].reshape(-1)[:] = symbols  # the cast drops the context
            magnitudes = distances.take(symbols)
            if last - column > 1:
                magnitudes = magnitudes.reshape(last - column, num_rows).sum(axis=0, dtype=np.int32)
            sums += magnitudes
            if begin_here < end_here:
                sums[rows[begin_here:end_here]] += expected[begin_here:end_here]
        magnitudes = np.abs(block.T.astype(np.int32) + grid.low)
        magnitudes[rows, columns] = expected >> 4
        expectation.see(magnitudes)
        levels[begin:end] = block.T
    follower.learn()
    return levels


def _spans(total: int, step: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, total, step):
        yield begin, min(begin + step, total)
