"""Which description a tensor gets: the shortest of those that fit it."""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.encode.grids import Grid, widths_of
from edgekit.encode.numbers import (
    I64,
    U64,
    apply_taps,
    bucket_integers,
    fit_taps,
    split_floats,
    taps_to_bytes,
    wrap,
    write_bits,
)
from edgekit.encode.pieces import MAX_COLUMNS, MAX_TAPS, AnyPiece, Codebook, Family, Integers, Wide
from edgekit.encode.restoring import float_keys, integer_family
from edgekit.encode.tables import MAX_LEVELS, NUM_CONTEXTS
from edgekit.encode.tensors import ELEMENT_BITS, Element, elements

U8: TypeAlias = npt.NDArray[np.uint8]
Matrix: TypeAlias = npt.NDArray[Any]

_FEWEST_PER_CODE = 4
_MASK_SHARE = 1.25
"""Zeros are worth a mask of their own when at least a fifth of the elements are zeros."""

_FEWEST_ROWS_FOR_TAPS = 32
_MOST_CONTEXTS_SHARE = 0.002
"""Share of the elements whose width may be outside of the contexts kept, at either end."""


class Array(msgspec.Struct, frozen=True):
    """Levels for the lanes, [rows, columns]."""

    family: Family
    grid: Grid
    levels: U8


class Description(msgspec.Struct, frozen=True):
    """A piece with what has to be coded for it, in the order in which a decoder asks.

    Args:
        piece: With a gap of 0.
        parts: Arrays for the lanes, and raw bytes.
    """

    piece: AnyPiece
    parts: tuple[Array | bytes, ...]


def describe(content: bytes, element: Element, shape: tuple[int, int], num_lanes: int) -> list[Description]:
    """Descriptions worth trying, without those that refer to other tensors; empty when only the residue fits.

    Args:
        content: The bytes.
        element: What they are.
        shape: [outer, inner], in the file's order.
        num_lanes: Lanes of the coder.
    """
    bits = ELEMENT_BITS[element]
    is_float = element in {"f16", "bf16", "f32", "f64"}
    if not is_float:
        values = elements(content, element).astype(np.int64)
        low, high = int(values.min()), int(values.max())
        if high - low < MAX_LEVELS:
            return _describe_integers(values.reshape(shape), bits, len(content), num_lanes)
        return describe_wide(values, len(content), bits)
    patterns = np.frombuffer(content, dtype=f"<u{bits // 8}").astype(np.uint64)
    if bits < 64:
        keys, indices = np.unique(float_keys(patterns, bits), return_inverse=True)
        if keys.size <= MAX_LEVELS and keys.size * _FEWEST_PER_CODE <= patterns.size:
            return _describe_codebook(keys, indices.reshape(shape).astype(np.uint8), bits, num_lanes)
    mantissa = {"f16": 10, "bf16": 7, "f32": 23, "f64": 52}[element]
    return _describe_floats(patterns, bits, mantissa)


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
    rows, columns = matrix.shape
    if bits == 8 and 2 <= columns <= MAX_TAPS and rows >= _FEWEST_ROWS_FOR_TAPS:
        tried.append(_with_taps(matrix, low + centre, is_transposed, length, num_lanes))
    return tried


def _with_taps(matrix: I64, centre: int, is_transposed: bool, length: int, num_lanes: int) -> Description:
    values = wrap(matrix - centre)
    taps = fit_taps(values)
    differences = apply_taps(values, taps)
    low = int(differences.min())
    levels = (differences - low).astype(np.uint8)
    grid = _matrix_grid(levels, low, num_lanes)
    piece = Integers(0, length, 8, centre, grid, is_transposed, has_taps=True)
    return Description(piece, (taps_to_bytes(taps), Array(integer_family(grid), grid, levels)))


def _describe_codebook(keys: U64, indices: U8, bits: int, num_lanes: int) -> list[Description]:
    distances = np.diff(keys.view(np.int64), prepend=np.int64(0))
    value_list = describe_wide(distances, keys.size * bits // 8, bits)
    coded_values = value_list[0].piece if value_list else None
    if not isinstance(coded_values, Wide):
        return []
    values = value_list[0].parts
    matrix, is_transposed = _upright(indices)
    zero = int(np.searchsorted(keys, np.uint64(1 << (bits - 1))))
    tried: list[Description] = []
    item_bytes, length = bits // 8, indices.size * bits // 8
    zero = min(zero, keys.size - 1)
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


def describe_wide(values: I64, length: int, bits: int) -> list[Description]:
    """Logarithms and raw bits; empty when there are too many."""
    if int(values.min()) == -(1 << 63):
        return []
    for leading in (3, 2, 1, 0):
        buckets, low, widths = bucket_integers(values, leading)
        first, last = int(buckets.min()), int(buckets.max())
        if last - first < MAX_LEVELS and max(-first, last) < MAX_LEVELS:
            levels = (buckets - first).astype(np.uint8)
            grid = sequence_grid(levels, first)
            piece = Wide(0, length, bits // 8, False, leading, 0, grid)
            return [Description(piece, (Array("logarithms", grid, levels[None]), write_bits(low, widths)))]
    return []


def _describe_floats(patterns: U64, bits: int, mantissa: int) -> list[Description]:
    for shift in range(max(0, mantissa - 3), bits - 1):
        tops, low = split_floats(patterns, bits, shift)
        is_zero = tops == 1
        others = np.abs(tops[~is_zero])
        base = int(others.min(initial=1)) - 1 if others.size else 0
        signed = np.where(is_zero, 0, tops - np.sign(tops) * base)
        first, last = int(signed.min()), int(signed.max())
        if last - first < MAX_LEVELS and max(-first, last) < MAX_LEVELS:
            levels = (signed - first).astype(np.uint8)
            grid = sequence_grid(levels, first)
            piece = Wide(0, patterns.size * bits // 8, bits // 8, True, shift, base, grid)
            raw = write_bits(low, np.full(low.size, shift, dtype=np.int64))
            return [Description(piece, (Array("exponents", grid, levels[None]), raw))]
    return []


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


def _matrix_grid(levels: U8, low: int, num_lanes: int) -> Grid:
    """Contexts that nearly all elements fall into."""
    rows, columns = levels.shape
    distances = np.abs(np.arange(MAX_LEVELS) + low)
    mean = float((np.bincount(levels.ravel(), minlength=MAX_LEVELS) * distances).sum() / levels.size)
    magnitude = min(max(1, round(16 * mean)), 16 * 255)
    grid = Grid(rows, columns, int(levels.max()) + 1, low, 0, NUM_CONTEXTS, magnitude)
    contexts = np.concatenate([block.ravel() for block in widths_of(levels, grid, num_lanes)])
    counts = np.bincount(contexts, minlength=NUM_CONTEXTS)
    share = np.cumsum(counts) / contexts.size
    first = int(np.argmax(share > _MOST_CONTEXTS_SHARE))
    last = int(np.argmax(share >= 1 - _MOST_CONTEXTS_SHARE))
    return msgspec.structs.replace(grid, first_context=first, num_contexts=last - first + 1)


def _shaped(levels: U8, grid: Grid) -> U8:
    return levels.reshape(grid.rows, grid.columns)
