"""From a description and coded words back to the bytes of a tensor."""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import IntegrityError
from edgekit.encode.chain import DISTANCES, ENDS, FLOATS, INTEGERS, PEAKS, PLACES, Chain, CurveKey
from edgekit.encode.grids import Grid, Peaks
from edgekit.encode.lines import Line
from edgekit.encode.numbers import (
    I64,
    U64,
    bucket_widths,
    join_buckets,
    join_floats,
    read_bits,
    taps_from_bytes,
    undo_taps,
)
from edgekit.encode.pieces import (
    END_WITHIN,
    ENDS_NEAR,
    MAX_TAPS,
    POLE_REACH,
    AnyPiece,
    Codebook,
    Copy,
    Ends,
    Extremes,
    Family,
    Integers,
    Numbers,
    Pole,
    Scaled,
    Wide,
)
from edgekit.encode.tables import MAX_LEVELS

U8: TypeAlias = npt.NDArray[np.uint8]
_FULL, _FULL_RATIO = 127, 0x42FE0000
"""The extreme integer of a channel whose range made the scale; the bits of 127.0."""


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
    if isinstance(piece, Numbers):
        return _to_bytes(_number_values(piece, chain), 8 * piece.item_bytes)
    if isinstance(piece, Codebook):
        return _restore_codebook(piece, chain)
    if isinstance(piece, Ends):
        return _restore_ends(piece, chain, earlier)
    if isinstance(piece, Extremes):
        return _restore_extremes(piece, chain, earlier)
    return _restore_scaled(piece, chain, earlier(piece.offset, piece.length))


def _restore_integers(piece: Integers, chain: Chain) -> bytes:
    grid = piece.grid
    taps = b""
    if piece.has_taps:
        taps = chain.raw.take(grid.columns * (grid.columns - 1) // 2)
    if piece.has_peaks:
        levels = _levels_with_peaks(grid, chain)
    else:
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


def _levels_with_peaks(grid: Grid, chain: Chain) -> U8:
    line = peak_line(grid)
    columns = chain.even(np.full(grid.rows, grid.columns + 1)) if line is None else chain.line(peak_key(grid), line)
    rows = np.flatnonzero(columns < grid.columns)
    ends = read_bits(chain.raw, np.ones(rows.size, dtype=np.int64)).astype(np.uint8)
    levels = chain.levels(peaked_family(grid), grid, Peaks(columns)).reshape(grid.rows, grid.columns)
    levels[rows, columns[rows]] = ends * np.uint8(grid.num_levels - 1)
    return levels


def peaked_family(grid: Grid) -> Family:
    """Integers among which no ends are left have other tails."""
    return "kernels" if grid.columns <= MAX_TAPS else "integers"


def peak_line(grid: Grid) -> Line | None:
    """How the columns of peaks are coded; None where there are so many that all are equally likely."""
    return Line(grid.rows, 0, grid.columns + 1) if grid.columns <= MAX_TAPS else None


def peak_key(grid: Grid) -> CurveKey:
    """The curve of the columns of peaks."""
    return (PEAKS, grid.columns, 0)


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


def line_key(piece: Numbers) -> CurveKey:
    """The curve of a piece's levels."""
    return (FLOATS, piece.item_bytes, piece.shift) if piece.is_float else (INTEGERS, 0, piece.shift)


def _number_values(piece: Numbers, chain: Chain) -> U64:
    """Bit patterns (floats) or two's complement in 64 bits (integers)."""
    places = None if piece.pole is None else chain.line((PLACES, 0, 0), piece.pole.places) == 1
    levels = chain.line(line_key(piece), piece.line)
    if piece.is_float:
        low = read_bits(chain.raw, np.full(levels.size, piece.shift, dtype=np.int64))
        num_bits = 8 * piece.item_bytes
        magnitude = (levels.astype(np.uint64) << np.uint64(piece.shift)) | low
        magnitude &= np.uint64((1 << (num_bits - 1)) - 1)
        return magnitude | (_signs(piece, chain, levels.size) << np.uint64(num_bits - 1))
    magnitude = join_buckets(levels, read_bits(chain.raw, bucket_widths(levels, piece.shift)), piece.shift)
    if places is not None and piece.pole is not None:
        magnitude = _with_pole(magnitude, places, piece.pole, chain)
    return np.where(_signs(piece, chain, magnitude.size) == 1, -magnitude, magnitude).view(np.uint64)


def _with_pole(magnitude: I64, places: npt.NDArray[np.bool_], pole: Pole, chain: Chain) -> I64:
    distances = chain.line((DISTANCES, 0, 0), pole.distances) - POLE_REACH
    num_at = int(np.count_nonzero(places))
    if num_at != distances.size or places.size - num_at != magnitude.size:
        raise IntegrityError(f"{distances.size} and {magnitude.size} integers for {num_at} of {places.size} places")
    everything = np.empty(places.size, dtype=np.int64)
    everything[places] = pole.magnitude + distances * pole.unit
    everything[~places] = magnitude
    return everything


def _signs(piece: Numbers, chain: Chain, size: int) -> U64:
    return read_bits(chain.raw, np.full(size, int(piece.is_signed), dtype=np.int64))


def _restore_codebook(piece: Codebook, chain: Chain) -> bytes:
    values = piece.values
    distances = _number_values(values, chain) if isinstance(values, Numbers) else _wide_values(values, chain)
    keys = np.cumsum(distances.view(np.int64)).view(np.uint64)
    patterns = keys if piece.is_integer else float_patterns(keys, 8 * piece.item_bytes)
    codebook = _unsigned(patterns, 8 * piece.item_bytes)
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
    extremes = _extreme_integers(scales.size, weights, is_inner=piece.is_inner, is_minimum=piece.ratio >> 31 == 1)
    with np.errstate(all="ignore"):
        product = scales.astype(np.float32) * extremes.astype(np.float32)
    return np.where(np.isnan(product) | (product == 0), 0, product.view(np.int32)).astype(np.int64)


class EndPlaces:
    """Where minima or maxima are expected, from scales and weights.

    Args:
        scales: [channels], float32.
        weights: Bytes of the int8 weights.
        piece: Its levels are not looked at.
    """

    def __init__(self, scales: npt.NDArray[Any], weights: bytes, piece: Ends) -> None:
        extremes = _extreme_integers(scales.size, weights, is_inner=piece.is_inner, is_minimum=piece.is_minimum)
        magnitudes = np.where(piece.is_minimum, -1, 1) * extremes.astype(np.int64)
        sign = 1 << 31 if piece.is_minimum else 0
        self.is_full: npt.NDArray[np.bool_] = magnitudes == _FULL
        self.full: I64 = scale(scales, _FULL_RATIO | sign)
        wide = scales.astype(np.float64)
        with np.errstate(all="ignore"):  # exact products, rounded once
            bounds = [(wide * (magnitudes + side)).astype(np.float32) for side in (-0.5, 0.5)]
        within = np.isfinite(bounds[1]) & (bounds[0] > 0)
        low, high = (np.where(within, bound.view(np.int32), 0).astype(np.int64) for bound in bounds)
        self.low: I64 = low
        self.count: I64 = high - low + 1
        self.sign = sign


def _restore_ends(piece: Ends, chain: Chain, earlier: Callable[[int, int], bytes]) -> bytes:
    scales = np.frombuffer(earlier(piece.offset, piece.length), dtype="<f4")
    places = EndPlaces(scales, earlier(piece.weights, piece.weights_bytes), piece)
    levels = np.zeros(scales.size, dtype=np.int64)
    for chosen, line, is_full in ((places.is_full, piece.full, 1), (~places.is_full, piece.rest, 0)):
        decoded = np.empty(0, dtype=np.int64) if line is None else chain.line((ENDS, is_full, 0), line)
        if decoded.size != np.count_nonzero(chosen):
            raise IntegrityError(f"{decoded.size} levels for {np.count_nonzero(chosen)} channels")
        levels[chosen] = decoded
    patterns = (places.full + levels - ENDS_NEAR) & 0xFFFFFFFF
    within = np.flatnonzero(levels == END_WITHIN)
    patterns[within] = (places.low[within] + chain.even(places.count[within])) | places.sign
    anywhere = np.flatnonzero(levels > END_WITHIN)
    patterns[anywhere] = read_bits(chain.raw, np.full(anywhere.size, 32, dtype=np.int64)).view(np.int64)
    return patterns.astype("<u4").tobytes()


def _extreme_integers(count: int, weights: bytes, *, is_inner: bool, is_minimum: bool) -> npt.NDArray[np.int8]:
    values = np.frombuffer(weights, dtype=np.int8)
    matrix = values.reshape(-1, count).T if is_inner else values.reshape(count, -1)
    return matrix.min(axis=1) if is_minimum else matrix.max(axis=1)


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
