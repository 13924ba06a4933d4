"""Which description a tensor gets: the shortest of those that fit it."""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.encode.describing_numbers import describe_floats, describe_integers
from edgekit.encode.grids import Grid, Peaks, widths_of
from edgekit.encode.numbers import I64, U64, apply_taps, fit_taps, taps_to_bytes, wrap, write_bits
from edgekit.encode.parts import Array, Description, EvenArray, LineArray, Part
from edgekit.encode.pieces import MAX_COLUMNS, MAX_TAPS, Codebook, Integers, Numbers
from edgekit.encode.restoring import float_keys, integer_family, peak_key, peak_line, peaked_family
from edgekit.encode.tables import MAX_LEVELS, NUM_CONTEXTS
from edgekit.encode.tensors import ELEMENT_BITS, Cut, Element, elements

U8: TypeAlias = npt.NDArray[np.uint8]
Matrix: TypeAlias = npt.NDArray[Any]

_FEWEST_PER_CODE = 4
_MASK_SHARE = 1.25
"""Zeros are worth a mask of their own when at least a fifth of the elements are zeros."""

_FEW_SHARE = 0.75
"""Share of the values in their range that integers may use to be described by a codebook."""

_FEWEST_ROWS_FOR_TAPS = 32
_PEAKED_SHARE = 0.8
_MOST_ENDS = 1.5
"""Rows that must have an end of the grid for peaks to be tried, and ends that a row may have on average."""

_MOST_CONTEXTS_SHARE = 0.002
"""Share of the elements whose width may be outside of the contexts kept, at either end."""


def describe(content: bytes, element: Element, cut: Cut, num_lanes: int) -> list[Description]:
    """Descriptions worth trying, without those that refer to other tensors; empty when only the residue fits.

    Args:
        content: The bytes.
        element: What they are.
        cut: Their shape.
        num_lanes: Lanes of the coder.
    """
    bits = ELEMENT_BITS[element]
    shapes = [(cut.outer, cut.inner)]
    if cut.kernel > 1 and cut.inner > cut.kernel:
        shapes.append((cut.outer * cut.inner // cut.kernel, cut.kernel))
    is_float = element in {"f16", "bf16", "f32", "f64"}
    if not is_float:
        values = elements(content, element).astype(np.int64)
        low, high = int(values.min()), int(values.max())
        few = _describe_few_integers(values, shapes, bits, num_lanes)
        if high - low < MAX_LEVELS:
            described = [_describe_integers(values.reshape(shape), bits, len(content), num_lanes) for shape in shapes]
            return [*few, *(one for some in described for one in some)]
        return [*few, *describe_integers(values, bits // 8)]
    patterns = np.frombuffer(content, dtype=f"<u{bits // 8}").astype(np.uint64)
    if bits < 64:
        keys, indices = np.unique(float_keys(patterns, bits), return_inverse=True)
        if keys.size <= MAX_LEVELS and keys.size * _FEWEST_PER_CODE <= patterns.size:
            matrices = [indices.reshape(shape).astype(np.uint8) for shape in shapes]
            return _describe_codebook(keys, matrices, bits, num_lanes)
    mantissa = {"f16": 10, "bf16": 7, "f32": 23, "f64": 52}[element]
    return describe_floats(patterns, bits, mantissa)


def sequence_grid(levels: U8, low: int) -> Grid:
    """How a sequence is coded, in one context."""
    num_levels = int(levels.max()) + 1
    return Grid(rows=1, columns=int(levels.size), num_levels=num_levels, low=low)


def _describe_integers(values: I64, bits: int, length: int, num_lanes: int) -> list[Description]:
    matrix, is_transposed = _upright(values)
    low = int(matrix.min())
    levels = (matrix - low).astype(np.uint8)
    centre = int(np.median(levels[:: max(1, len(levels) // 256)]))
    tried: list[Description] = []
    for grid in _grids(levels, -centre, num_lanes):
        piece = Integers(0, length, bits, low, grid, is_transposed)
        tried.append(Description(piece, (Array(integer_family(grid), grid, _shaped(levels, grid)),)))
        if grid.num_contexts:
            tried += _with_peaks(levels, piece, num_lanes)
    rows, columns = matrix.shape
    if bits == 8 and 2 <= columns <= MAX_TAPS and rows >= _FEWEST_ROWS_FOR_TAPS:
        tried.append(_with_taps(matrix, low + centre, is_transposed, length, num_lanes))
    return tried


def _with_peaks(levels: U8, plain: Integers, num_lanes: int) -> list[Description]:
    """Where nearly every row has one level that is an end of the grid."""
    rows, num_columns = levels.shape
    is_end = (levels == 0) | (levels == plain.grid.num_levels - 1)
    has_end = is_end.any(axis=1)
    if np.count_nonzero(has_end) < _PEAKED_SHARE * rows or np.count_nonzero(is_end) > _MOST_ENDS * rows:
        return []
    columns = np.where(has_end, is_end.argmax(axis=1), num_columns)
    grid = _matrix_grid(levels, plain.grid.low, num_lanes, columns)
    piece = msgspec.structs.replace(plain, grid=grid, has_peaks=True)
    line = peak_line(grid)
    if line is None:
        place: Part = EvenArray(columns, np.full(rows, num_columns + 1))
    else:
        place = LineArray(peak_key(grid), line, columns.astype(np.uint8))
    chosen = np.flatnonzero(has_end)
    ends = (levels[chosen, columns[chosen]] > 0).astype(np.uint64)
    signs = write_bits(ends, np.ones(chosen.size, dtype=np.int64))
    return [Description(piece, (place, signs, Array(peaked_family(grid), grid, levels, columns)))]


def _with_taps(matrix: I64, centre: int, is_transposed: bool, length: int, num_lanes: int) -> Description:
    values = wrap(matrix - centre)
    taps = fit_taps(values)
    differences = apply_taps(values, taps)
    low = int(differences.min())
    levels = (differences - low).astype(np.uint8)
    grid = _matrix_grid(levels, low, num_lanes)
    piece = Integers(0, length, 8, centre, grid, is_transposed, has_taps=True)
    return Description(piece, (taps_to_bytes(taps), Array(integer_family(grid), grid, levels)))


def _describe_few_integers(
    values: I64, shapes: Sequence[tuple[int, int]], bits: int, num_lanes: int
) -> list[Description]:
    """Integers that leave out most of the values in their range: weights that were shared."""
    if bits not in {8, 16, 32}:
        return []
    keys, indices = np.unique(values, return_inverse=True)
    is_sparse = keys.size < _FEW_SHARE * (int(keys[-1]) - int(keys[0]) + 1)
    if not is_sparse or keys.size > MAX_LEVELS or keys.size * _FEWEST_PER_CODE > values.size:
        return []
    matrices = [indices.reshape(shape).astype(np.uint8) for shape in shapes]
    zero = min(int(np.searchsorted(keys, 0)), keys.size - 1)
    described = _with_codebook(keys, matrices, (bits, zero), num_lanes)
    return [_as_integers(one) for one in described]


def _as_integers(described: Description) -> Description:
    return msgspec.structs.replace(described, piece=msgspec.structs.replace(described.piece, is_integer=True))


def _describe_codebook(keys: U64, shaped: Sequence[U8], bits: int, num_lanes: int) -> list[Description]:
    zero = min(int(np.searchsorted(keys, np.uint64(1 << (bits - 1)))), keys.size - 1)
    return _with_codebook(keys.view(np.int64), shaped, (bits, zero), num_lanes)


def _with_codebook(keys: I64, shaped: Sequence[U8], form: tuple[int, int], num_lanes: int) -> list[Description]:
    """Rising values and indices into them; `form` is the bits of a value and the index of zero."""
    bits, zero = form
    value_list = describe_integers(np.diff(keys, prepend=np.int64(0)), bits // 8)
    coded_values = value_list[0].piece if value_list else None
    if not isinstance(coded_values, Numbers):
        return []
    values = value_list[0].parts
    item_bytes, length = bits // 8, shaped[0].size * bits // 8
    tried: list[Description] = []
    for indices in shaped:
        matrix, is_transposed = _upright(indices)
        for grid in _grids(matrix, -zero, num_lanes):
            piece = Codebook(0, length, item_bytes, coded_values, grid, is_transposed)
            tried.append(Description(piece, (*values, Array("indices", grid, _shaped(matrix, grid)))))
        others = matrix[matrix != zero]
        if others.size * _MASK_SHARE <= matrix.size and others.size:
            mask = (matrix != zero).astype(np.uint8)
            grid = sequence_grid(others, -zero)
            for mask_grid in _grids(mask, 0, num_lanes):
                piece = Codebook(0, length, item_bytes, coded_values, grid, is_transposed, mask_grid, zero)
                arrays = (Array("indices", grid, others[None]), Array("masks", mask_grid, mask))
                tried.append(Description(piece, (*values, *arrays)))
    return tried


def _upright(values: Matrix) -> tuple[Matrix, bool]:
    """The matrix with its longer axis as rows, which are the lanes."""
    if values.shape[1] > values.shape[0] and values.shape[0] > 1:
        return np.ascontiguousarray(values.T), True
    return values, False


def _grids(levels: U8, low: int, num_lanes: int) -> list[Grid]:
    """With contexts where there are rows and columns, and as a plain sequence."""
    num_levels = int(levels.max()) + 1
    rows, columns = levels.shape
    sequence = Grid(rows=rows, columns=columns, num_levels=num_levels, low=low)
    if num_levels == 1 or rows < 2 or not 2 <= columns <= MAX_COLUMNS:
        return [sequence]
    return [_matrix_grid(levels, low, num_lanes), sequence]


def _matrix_grid(levels: U8, low: int, num_lanes: int, peaks: I64 | None = None) -> Grid:
    """Contexts that nearly all elements fall into."""
    rows, columns = levels.shape
    distances = np.abs(np.arange(MAX_LEVELS) + low)
    counts = np.bincount(levels.ravel(), minlength=MAX_LEVELS)
    if peaks is not None:
        known = np.flatnonzero(peaks < columns)
        counts -= np.bincount(levels[known, peaks[known]], minlength=MAX_LEVELS)
    mean = float((counts * distances).sum() / max(1, counts.sum()))
    magnitude = min(max(1, round(16 * mean)), 16 * 255)
    grid = Grid(rows, columns, int(levels.max()) + 1, low, 0, NUM_CONTEXTS, magnitude)
    blocks = widths_of(levels, grid, num_lanes, None if peaks is None else Peaks(peaks))
    contexts = np.concatenate([block.ravel() for block in blocks])
    by_context = np.bincount(contexts, minlength=NUM_CONTEXTS)[:NUM_CONTEXTS]
    share = np.cumsum(by_context) / max(1, by_context.sum())
    first = int(np.argmax(share > _MOST_CONTEXTS_SHARE))
    last = int(np.argmax(share >= 1 - _MOST_CONTEXTS_SHARE))
    return msgspec.structs.replace(grid, first_context=first, num_contexts=last - first + 1)


def _shaped(levels: U8, grid: Grid) -> U8:
    return levels.reshape(grid.rows, grid.columns)
