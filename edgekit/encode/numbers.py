"""Wide numbers as a small level and raw bits; raw bits as bytes; a column from the columns before it."""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import IntegrityError

I16: TypeAlias = npt.NDArray[np.int16]
I64: TypeAlias = npt.NDArray[np.int64]
U64: TypeAlias = npt.NDArray[np.uint64]
U8: TypeAlias = npt.NDArray[np.uint8]

_TAP_BITS = 6
_PLAIN = 4
"""Magnitudes below 2**4 are levels of their own."""


class BitReader:
    """Raw bits of one section, taken from the front.

    Args:
        content: The bytes.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    @property
    def num_left(self) -> int:
        """Bytes that nobody took yet."""
        return len(self._content) - self._position

    @property
    def num_read(self) -> int:
        """Bytes taken."""
        return self._position

    def take(self, num_bytes: int) -> bytes:
        """The next bytes. Raises `IntegrityError` when there are not as many."""
        if num_bytes > self.num_left:
            raise IntegrityError(f"raw bits end: {num_bytes} bytes wanted, {self.num_left} left")
        begin = self._position
        self._position += num_bytes
        return self._content[begin : self._position]


def write_bits(values: U64, widths: I64) -> bytes:
    """The low `widths[i]` bits of every value, plane by plane from the highest, padded to whole bytes."""
    planes = [
        ((values[widths > bit] >> np.uint64(bit)) & np.uint64(1)).astype(np.uint8)
        for bit in range(int(widths.max(initial=0)) - 1, -1, -1)
    ]
    return np.packbits(np.concatenate(planes)).tobytes() if planes else b""


def read_bits(reader: BitReader, widths: I64) -> U64:
    """The inverse of `write_bits`."""
    values = np.zeros(widths.size, dtype=np.uint64)
    total = int(widths.sum())
    bits = np.unpackbits(np.frombuffer(reader.take(-(-total // 8)), dtype=np.uint8), count=total)
    most = int(widths.max(initial=0))
    if total == most * widths.size:  # all alike: every plane has a bit of each
        for plane in bits.reshape(most, widths.size):
            values <<= np.uint64(1)
            values |= plane
        return values
    begin = 0
    for bit in range(most - 1, -1, -1):
        chosen = np.flatnonzero(widths > bit)
        plane = bits[begin : begin + chosen.size].astype(np.uint64)
        values[chosen] |= plane << np.uint64(bit)
        begin += chosen.size
    return values


def split_floats(patterns: U64, num_bits: int, shift: int) -> tuple[I64, U64]:
    """Signed exponents (with leading mantissa bits) and the `shift` bits below, of IEEE patterns."""
    sign = (patterns >> np.uint64(num_bits - 1)).astype(np.int64)
    rest = patterns & np.uint64((1 << (num_bits - 1)) - 1)
    return np.where(sign == 1, -1, 1) * ((rest >> np.uint64(shift)).astype(np.int64) + 1), rest & np.uint64(
        (1 << shift) - 1
    )


def join_floats(tops: I64, low: U64, num_bits: int, shift: int) -> U64:
    """The inverse of `split_floats`. `tops` is never 0; what does not fit the width is cut off."""
    rest = ((np.abs(tops) - 1).astype(np.uint64) << np.uint64(shift)) | low
    sign = (tops < 0).astype(np.uint64) << np.uint64(num_bits - 1)
    return (rest & np.uint64((1 << (num_bits - 1)) - 1)) | sign


def bucket_integers(values: I64, leading: int) -> tuple[I64, U64, I64]:
    """Signed bucket of every integer on a logarithmic scale, its offset in it, and the bits of that offset.

    Args:
        values: Any, but -2**63.
        leading: Bits after the highest that decide the bucket.
    """
    magnitude = np.abs(values).astype(np.uint64)
    exponent = _exponents(magnitude)
    widths = np.where(exponent < _PLAIN, 0, exponent - leading)
    top = (magnitude >> widths.astype(np.uint64)).astype(np.int64)
    per_octave = 1 << leading
    bucket = np.where(exponent < _PLAIN, top, (1 << _PLAIN) + (exponent - _PLAIN) * per_octave + top - per_octave)
    low = magnitude & ((np.uint64(1) << widths.astype(np.uint64)) - np.uint64(1))
    return np.sign(values) * bucket, low, widths


def bucket_widths(buckets: I64, leading: int) -> I64:
    """Bits of the offset within every bucket."""
    over = np.abs(buckets) - (1 << _PLAIN)
    return np.where(over < 0, 0, (over >> leading) + _PLAIN - leading)


def join_buckets(buckets: I64, low: U64, leading: int) -> I64:
    """The inverse of `bucket_integers`; what does not fit 64 bits wraps around."""
    over = np.abs(buckets) - (1 << _PLAIN)
    per_octave = 1 << leading
    top = np.where(over < 0, np.abs(buckets), per_octave + (over & (per_octave - 1))).astype(np.uint64)
    magnitude = (top << np.minimum(bucket_widths(buckets, leading), 63).astype(np.uint64)) | low
    return np.where(buckets < 0, -1, 1) * magnitude.view(np.int64)


def apply_taps(values: I16, taps: I64) -> I16:
    """Differences of a matrix of bytes to what the columns before predict, wrapped to -128..127.

    Args:
        values: [rows, columns], distances from the centre.
        taps: [columns, columns], strictly lower triangle, in sixty-fourths.
    """
    wide = values.astype(np.int64)
    predicted = (wide @ taps.T + (1 << (_TAP_BITS - 1))) >> _TAP_BITS
    return wrap(wide - np.clip(predicted, -127, 127))


def undo_taps(differences: I16, taps: I64) -> I16:
    """The inverse of `apply_taps`, up to a multiple of 256."""
    values = np.zeros(differences.shape, dtype=np.int64)
    for column in range(differences.shape[1]):
        predicted = (values[:, :column] @ taps[column, :column] + (1 << (_TAP_BITS - 1))) >> _TAP_BITS
        values[:, column] = wrap(differences[:, column] + np.clip(predicted, -127, 127))
    return values.astype(np.int16)


def fit_taps(values: I16) -> I64:
    """Least squares for `apply_taps`, every row weighed by its own size. Host side: not reproducible to the bit."""
    wide = values.astype(np.float64)
    scaled = wide / (np.sqrt((wide**2).mean(axis=1, keepdims=True)) + 1.0)
    moments = scaled.T @ scaled / len(scaled) + 0.02 * np.eye(wide.shape[1])
    lower = np.linalg.cholesky(moments)
    inverse = np.linalg.inv(lower)
    taps = -np.tril(inverse * np.diag(lower)[:, None], -1)
    return np.clip(np.rint(taps * (1 << _TAP_BITS)), -128, 127).astype(np.int64)


def taps_to_bytes(taps: I64) -> bytes:
    """The strict lower triangle, a byte each."""
    return taps[np.tril_indices(len(taps), -1)].astype(np.int8).tobytes()


def taps_from_bytes(content: bytes, num_columns: int) -> I64:
    """The inverse of `taps_to_bytes`."""
    taps = np.zeros((num_columns, num_columns), dtype=np.int64)
    taps[np.tril_indices(num_columns, -1)] = np.frombuffer(content, dtype=np.int8)
    return taps


def wrap(values: npt.NDArray[Any]) -> I16:
    """Into -128..127 by multiples of 256."""
    return (((values + 128) & 255) - 128).astype(np.int16)


def _exponents(magnitude: U64) -> I64:
    """Position of the highest set bit; 0 for 0."""
    exponent = np.zeros(magnitude.size, dtype=np.int64)
    rest = magnitude.copy()
    for bits in (32, 16, 8, 4, 2, 1):
        large = rest >= np.uint64(1) << np.uint64(bits)
        exponent += large * bits
        rest = np.where(large, rest >> np.uint64(bits), rest)
    return exponent
