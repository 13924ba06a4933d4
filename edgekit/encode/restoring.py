"""From a description and coded words back to the bytes of a tensor."""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import IntegrityError
from edgekit.encode.grids import Grid, decode_matrix, decode_sequence
from edgekit.encode.lanes import U32, LaneDecoder
from edgekit.encode.numbers import (
    I64,
    U64,
    BitReader,
    bucket_widths,
    join_buckets,
    join_floats,
    read_bits,
    taps_from_bytes,
    undo_taps,
)
from edgekit.encode.pieces import MAX_TAPS, AnyPiece, Codebook, Copy, Extremes, Family, Integers, Scaled, Wide
from edgekit.encode.tables import MAX_LEVELS, Tables

U8: TypeAlias = npt.NDArray[np.uint8]


class Families:
    """The distributions of one chain of sections, made when first asked for."""

    def __init__(self) -> None:
        self._tables: dict[tuple[Family, bool], Tables] = {}

    def save(self) -> dict[tuple[Family, bool], npt.NDArray[Any]]:
        """Remember the state, for `restore`."""
        return {key: tables.save() for key, tables in self._tables.items()}

    def restore(self, saved: dict[tuple[Family, bool], npt.NDArray[Any]]) -> None:
        """Go back to a state from `save`; what was made since starts again."""
        self._tables = {key: table for key, table in self._tables.items() if key in saved}
        for (family, is_flat), weights in saved.items():
            self._tables.setdefault((family, is_flat), Tables(is_flat=is_flat)).restore(weights)

    def of(self, family: Family, grid: Grid) -> Tables:
        """Those that an array of a family uses."""
        is_flat = grid.num_contexts == 0
        key = (family, is_flat)
        if key not in self._tables:
            self._tables[key] = Tables(is_flat=is_flat)
        return self._tables[key]


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

    def levels(self, family: Family, grid: Grid) -> U8:
        """Levels of an array, flat, row by row."""
        if grid.num_levels == 1:
            return np.zeros(grid.rows * grid.columns, dtype=np.uint8)
        tables = self.families.of(family, grid)
        if grid.num_contexts:
            return decode_matrix(grid, tables, self.decoder, self.num_lanes).ravel()
        return decode_sequence(grid, tables, self.decoder, self.num_lanes)


def restore(piece: AnyPiece, chain: Chain, earlier: Callable[[int, int], bytes]) -> bytes:
    """The bytes of a piece.

    Args:
        piece: Its description, checked.
        chain: Gives the words.
        earlier: Gives bytes of the original that are restored already, by offset and length.

    Raises:
        IntegrityError: The words or bits do not suffice.
    """
    if isinstance(piece, Copy):
        return earlier(piece.offset, piece.length)
    if isinstance(piece, Integers):
        return _restore_integers(piece, chain)
    if isinstance(piece, Wide):
        return _to_bytes(_wide_values(piece, chain), 8 * piece.item_bytes)
    if isinstance(piece, Codebook):
        return _restore_codebook(piece, chain)
    if isinstance(piece, Extremes):
        return _restore_extremes(piece, chain, earlier)
    return _restore_scaled(piece, chain, earlier(piece.offset, piece.length))


def _restore_integers(piece: Integers, chain: Chain) -> bytes:
    grid = piece.grid
    taps = b""
    if piece.has_taps:
        taps = chain.raw.take(grid.columns * (grid.columns - 1) // 2)
    levels = chain.levels(integer_family(grid), grid).reshape(grid.rows, grid.columns)
    if piece.has_taps:
        differences = levels.astype(np.int16) + np.int16(grid.low)
        values = undo_taps(differences, taps_from_bytes(taps, grid.columns)).astype(np.int64)
        return _in_file_order((values + piece.base).astype(np.uint8), piece.is_transposed).tobytes()
    levels = _in_file_order(levels, piece.is_transposed)
    if piece.bits == 4:
        nibbles = (levels.ravel().astype(np.int64) + piece.base).astype(np.uint8) & 15
        return (nibbles[0::2] | (nibbles[1::2] << 4)).tobytes()
    # by table: a byte's worth of values at most, whatever their width
    table = (np.arange(MAX_LEVELS, dtype=np.int64) + piece.base).astype(f"<i{piece.bits // 8}")
    return table.take(levels).tobytes()


def integer_family(grid: Grid) -> Family:
    """Kernels of depthwise convolutions and the like have other tails than long rows."""
    return "kernels" if grid.columns <= MAX_TAPS else "integers"


def _wide_values(piece: Wide, chain: Chain) -> U64:
    """Bit patterns (floats) or two's complement in 64 bits (integers)."""
    family: Family = "exponents" if piece.is_float else "logarithms"
    tops: I64 = chain.levels(family, piece.grid).astype(np.int64) + piece.grid.low
    if not piece.is_float:
        return join_buckets(tops, read_bits(chain.raw, bucket_widths(tops, piece.shift)), piece.shift).view(np.uint64)
    low = read_bits(chain.raw, np.full(tops.size, piece.shift, dtype=np.int64))
    # level 0 is the float 0.0, the others are exponents above the base
    shifted = np.where(tops == 0, 1, tops + np.sign(tops) * piece.base)
    return join_floats(shifted, low, 8 * piece.item_bytes, piece.shift)


def _restore_codebook(piece: Codebook, chain: Chain) -> bytes:
    keys = np.cumsum(_wide_values(piece.values, chain).view(np.int64)).view(np.uint64)
    codebook = _unsigned(float_patterns(keys, 8 * piece.item_bytes), 8 * piece.item_bytes)
    indices = chain.levels("indices", piece.grid)
    if piece.mask is None:
        levels = indices.reshape(piece.grid.rows, piece.grid.columns)
    else:
        mask = chain.levels("masks", piece.mask)
        places = np.flatnonzero(mask)
        if places.size != indices.size:
            raise IntegrityError(f"{indices.size} values for {places.size} places")
        mask[:] = piece.zero
        mask[places] = indices
        levels = mask.reshape(piece.mask.rows, piece.mask.columns)
    if levels.size and int(levels.max()) >= codebook.size:
        raise IntegrityError(f"index {int(levels.max())} in a codebook of {codebook.size}")
    return codebook.take(_in_file_order(levels, piece.is_transposed)).tobytes()


def _restore_scaled(piece: Scaled, chain: Chain, others: bytes) -> bytes:
    levels = chain.levels("differences", piece.grid).astype(np.int64)
    predicted = scale(np.frombuffer(others, dtype="<f4"), piece.ratio)
    return (predicted + levels + piece.base).astype("<i4").tobytes()


def _restore_extremes(piece: Extremes, chain: Chain, earlier: Callable[[int, int], bytes]) -> bytes:
    levels = chain.levels("differences", piece.grid).astype(np.int64)
    scales = np.frombuffer(earlier(piece.offset, piece.length), dtype="<f4")
    patterns = scale(scales, piece.ratio) + levels + piece.base
    if piece.others is not None:
        chosen = np.flatnonzero(levels == piece.grid.num_levels - 1)
        differences = _wide_values(piece.others, chain).view(np.int64)
        if differences.size != chosen.size:
            raise IntegrityError(f"{differences.size} differences for {chosen.size} channels")
        weights = earlier(piece.weights, piece.weights_bytes)
        patterns[chosen] = near_integers(scales, weights, piece)[chosen] + differences
    return patterns.astype("<i4").tobytes()


def near_integers(scales: npt.NDArray[Any], weights: bytes, piece: Extremes) -> I64:
    """Patterns of the extreme integer of every channel, scaled: the least or the greatest, by the sign of the ratio."""
    values = np.frombuffer(weights, dtype=np.int8)
    matrix = values.reshape(-1, scales.size).T if piece.is_inner else values.reshape(scales.size, -1)
    extremes = matrix.min(axis=1) if piece.ratio >> 31 else matrix.max(axis=1)
    with np.errstate(all="ignore"):
        product = scales.astype(np.float32) * extremes.astype(np.float32)
    return np.where(np.isnan(product) | (product == 0), 0, product.view(np.int32)).astype(np.int64)


def scale(others: npt.NDArray[Any], ratio: int) -> I64:
    """Patterns of float32 products, as integers. One IEEE multiplication each: the same on every machine."""
    with np.errstate(all="ignore"):
        product = others.astype(np.float32) * np.array([ratio], dtype=np.uint32).view(np.float32)
    return np.where(np.isnan(product), 0, product.view(np.int32)).astype(np.int64)


def float_keys(patterns: U64, num_bits: int) -> U64:
    """Float patterns as numbers in the floats' own order."""
    sign = np.uint64(1 << (num_bits - 1))
    everything = np.uint64((1 << num_bits) - 1)
    return np.where(patterns & sign, patterns ^ everything, patterns | sign)


def float_patterns(keys: U64, num_bits: int) -> U64:
    """The inverse of `float_keys`."""
    sign = np.uint64(1 << (num_bits - 1))
    everything = np.uint64((1 << num_bits) - 1)
    return np.where(keys & sign, keys ^ sign, keys ^ everything)


def _in_file_order(matrix: U8, is_transposed: bool) -> U8:
    return np.ascontiguousarray(matrix.T if is_transposed else matrix)


def _unsigned(values: U64, num_bits: int) -> npt.NDArray[Any]:
    return values.astype(f"<u{num_bits // 8}")


def _to_bytes(values: U64, num_bits: int) -> bytes:
    return _unsigned(values, num_bits).tobytes()
