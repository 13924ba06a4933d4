"""What an `.ekz` file says about the bytes of the original: the header, and one description for every tensor.

It is read from a file that may be hostile, so every number is checked before it is believed: `plausibility`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from edgekit.encode.grids import Grid
from edgekit.encode.lines import Line

MAX_SIZE_BYTES = 1 << 31
"""Largest original: protocol buffers and flatbuffers end at 2 GiB anyway."""

MAX_ELEMENTS = 1 << 22
"""Most elements in one piece; larger tensors are cut. It bounds what a decoder holds at a time."""

MAX_RESIDUE_BYTES = 1 << 22
"""Most original bytes in one section of the rest of the file."""

MAX_COLUMNS = 1 << 18
MAX_TAPS = 32
"""Columns up to which a column may be predicted from those before it."""

SHA256_BYTES = 32

FileKind: TypeAlias = Literal["tflite", "onnx", "unknown"]

Family: TypeAlias = Literal[
    "integers",
    "kernels",
    "peaked integers",
    "peaked kernels",
    "indices",
    "masks",
    "logarithms",
    "exponents",
    "differences",
]
"""Arrays that share distributions."""

MAX_LEADING = 3
"""Most bits after the highest that count towards the level of an integer."""

POLE_REACH = 128
"""Units from a pole up to which an integer lies at it: a distance of -128 is level 0."""

ENDS_NEAR = 2
"""Units in the last place within which an end is taken for 127 scales."""

END_WITHIN, END_ANYWHERE, NUM_END_LEVELS = 5, 6, 7


class Piece(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Part of the original that is not in the residue.

    Args:
        gap: Bytes of residue between the piece before and this one.
        length: Bytes of the original that it stands for.
    """

    gap: int
    length: int


class Copy(Piece, frozen=True, array_like=True, forbid_unknown_fields=True, tag=0):
    """The same bytes stand earlier in the original, at `offset`."""

    offset: int


class Integers(Piece, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """Integers of few levels.

    Args:
        bits: Bits of each: 4 (two in a byte), 8, 16, 32 or 64; two's complement.
        base: The integer of level 0.
        grid: How the levels are coded.
        is_transposed: Whether the matrix lies in the file column by column.
        has_taps: Whether every column is predicted from those before it.
        has_peaks: Whether it is told in advance where each row has its first level that is an end of the grid: a row
            that was scaled to its largest weight has one. Since version 2.
    """

    bits: int
    base: int
    grid: Grid
    is_transposed: bool = False
    has_taps: bool = False
    has_peaks: bool = False


class Wide(Piece, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """Integers or floats of many values: their logarithm is coded, the bits below it are stored as they are.

    Args:
        item_bytes: Bytes of an element.
        is_float: Sign, exponent, mantissa; otherwise two's complement.
        shift: Mantissa bits that are stored as they are (float); leading bits that are coded after the first (integer).
        base: Subtracted from the exponents (float).
        grid: How the logarithms are coded.
    """

    item_bytes: int
    is_float: bool
    shift: int
    base: int
    grid: Grid


class Pole(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A magnitude that many integers lie at, or a few units beside: where biases are cut off, at 2**30.

    Args:
        magnitude: The magnitude.
        unit: What the distances to it are multiples of.
        places: How it is coded which integers lie there (level 1).
        distances: How their distances are coded.
    """

    magnitude: int
    unit: int
    places: Line
    distances: Line


class Numbers(Piece, frozen=True, array_like=True, forbid_unknown_fields=True, tag=7):
    """Numbers of many values, since version 2: the logarithm of their magnitude is coded, the rest are raw bits.

    Args:
        item_bytes: Bytes of an element.
        is_float: Sign, exponent, mantissa; otherwise two's complement.
        is_signed: Whether a raw bit for each says that it is negative; otherwise none is.
        shift: Mantissa bits that are stored as they are (float); leading bits that are coded after the first (integer).
        line: How the levels are coded; of those that are not at the pole, where there is one.
        pole: Where many of them lie; only integers.
    """

    item_bytes: int
    is_float: bool
    is_signed: bool
    shift: int
    line: Line
    pole: Pole | None = None

    @property
    def size(self) -> int:
        """Elements."""
        return self.line.size if self.pole is None else self.pole.places.size


class Codebook(Piece, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """Floats or integers of few distinct values.

    Args:
        item_bytes: Bytes of an element, 2 or 4; of an integer 1, 2 or 4.
        values: How the distinct values are coded: in rising order, each as its distance from the one before.
        grid: How the indices are coded: of all elements, or of those that are not 0.0 where there is a mask.
        is_transposed: Whether the matrix lies in the file column by column.
        mask: How it is coded which elements are not 0.0; None when the zeros are indices like any other.
        zero: Index of 0.0 in the codebook; only with a mask.
        is_integer: Two's complement instead of floats. Since version 2.
    """

    item_bytes: int
    values: Wide | Numbers
    grid: Grid
    is_transposed: bool = False
    mask: Grid | None = None
    zero: int = 0
    is_integer: bool = False


class Scaled(Piece, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """float32 numbers that are others of the file times a constant, up to a few units in the last place.

    Args:
        offset: Where the others lie in the original.
        ratio: Bits of the float32 constant.
        base: Difference of level 0, in units in the last place.
        grid: How the differences are coded.
    """

    offset: int
    ratio: int
    base: int
    grid: Grid


class Extremes(Piece, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6):
    """Minima or maxima of the channels of int8 weights, as float32, beside their scales.

    Where the channel's range made the scale, the extreme is 127 scales, up to a few units in the last place; where
    the other end did, it is near the extreme integer of the channel.

    Args:
        offset: Where the scales lie in the original, as many as extremes.
        ratio: Bits of the float32 127.0 or -127.0.
        base: Difference of level 0 to 127 scales, in units in the last place.
        grid: How the differences are coded; the last level means "the other end".
        weights: Where the weights lie in the original.
        weights_bytes: Their bytes.
        is_inner: Whether the channels are the last axis of the weights; otherwise the first.
        others: How the differences to the scaled integers are coded; None when there are none.
    """

    offset: int
    ratio: int
    base: int
    grid: Grid
    weights: int
    weights_bytes: int
    is_inner: bool
    others: Wide | None


class Ends(Piece, frozen=True, array_like=True, forbid_unknown_fields=True, tag=8):
    """Minima or maxima of the channels of int8 weights, as float32, beside their scales. Since version 2.

    Where the extreme integer of a channel is 127 (or -127), its range made the scale: the end is 127 scales, up to a
    few units in the last place. Elsewhere it lies within half a scale of the extreme integer's product, evenly.
    Level 0 to 4 are units in the last place from 127 scales, beginning at -2; 5 is within half a scale; 6 anything.

    Args:
        offset: Where the scales lie in the original, as many as ends.
        is_minimum: Which end.
        weights: Where the weights lie in the original.
        weights_bytes: Their bytes.
        is_inner: Whether the channels are the last axis of the weights; otherwise the first.
        full: How the levels of channels are coded whose extreme integer is 127 or -127.
        rest: How those of the others are coded.
    """

    offset: int
    is_minimum: bool
    weights: int
    weights_bytes: int
    is_inner: bool
    full: Line | None
    rest: Line | None


AnyPiece: TypeAlias = Copy | Integers | Codebook | Wide | Scaled | Extremes | Numbers | Ends


class Section(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Bytes of the `.ekz` file that are checked and read at once.

    Args:
        length: Bytes of the section.
        crc: CRC-32 of them.
        num_pieces: Pieces coded in it; 0 for a section of residue.
        num_words: 16-bit words of the lanes, which come first; for residue, bytes before compression.
        num_lanes: Lanes that start anew here (their states come before the words); 0 to go on with those there are.
    """

    length: int
    crc: int
    num_pieces: int
    num_words: int
    num_lanes: int = 0


class Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What stands at the front.

    Args:
        kind: What the original was taken for.
        size_bytes: Of the original.
        sha256: Of the original.
        sections: In the order of the file.
        pieces: In the order of the original.
    """

    kind: FileKind
    size_bytes: int
    sha256: bytes
    sections: tuple[Section, ...]
    pieces: tuple[AnyPiece, ...]
