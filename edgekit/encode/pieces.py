"""What an `.ekz` file says about the bytes of the original: the header, and one description for every tensor.

Everything is read from a file that may be hostile, so every number is checked before it is believed: `check_header`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from edgekit.core.errors import IntegrityError
from edgekit.encode.grids import Grid
from edgekit.encode.lanes import MAX_LANES
from edgekit.encode.tables import CENTRE, MAX_LEVELS, NUM_CONTEXTS

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

Family: TypeAlias = Literal["integers", "kernels", "indices", "masks", "logarithms", "exponents", "differences"]
"""Arrays that share distributions."""


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
    """

    bits: int
    base: int
    grid: Grid
    is_transposed: bool = False
    has_taps: bool = False


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


class Codebook(Piece, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """Floats of few distinct values.

    Args:
        item_bytes: Bytes of an element, 2 or 4.
        values: How the distinct values are coded: in rising order, each as its distance from the one before.
        grid: How the indices are coded: of all elements, or of those that are not 0.0 where there is a mask.
        is_transposed: Whether the matrix lies in the file column by column.
        mask: How it is coded which elements are not 0.0; None when the zeros are indices like any other.
        zero: Index of 0.0 in the codebook; only with a mask.
    """

    item_bytes: int
    values: Wide
    grid: Grid
    is_transposed: bool = False
    mask: Grid | None = None
    zero: int = 0


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


AnyPiece: TypeAlias = "Copy | Integers | Codebook | Wide | Scaled | Extremes"


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


def check_header(header: Header) -> None:
    """Check that the numbers fit each other and stay within their caps.

    Raises:
        IntegrityError: They do not.
    """
    _require(0 <= header.size_bytes <= MAX_SIZE_BYTES, f"size {header.size_bytes}, at most {MAX_SIZE_BYTES}")
    _require(len(header.sha256) == SHA256_BYTES, f"SHA-256 of {len(header.sha256)} bytes")
    position = 0
    for index, piece in enumerate(header.pieces):
        place = f"piece {index}"
        _require(piece.gap >= 0 and piece.length >= 1, f"{place}: gap {piece.gap}, length {piece.length}")
        position += piece.gap
        _check_piece(piece, position, place)
        position += piece.length
    _require(position <= header.size_bytes, f"pieces of {position} bytes in a file of {header.size_bytes}")
    _check_sections(header, header.size_bytes - sum(piece.length for piece in header.pieces))


def _check_sections(header: Header, residue_bytes: int) -> None:
    num_pieces = 0
    for index, section in enumerate(header.sections):
        place = f"section {index}"
        small = min(section.length, section.crc, section.num_pieces, section.num_words, section.num_lanes)
        _require(small >= 0 and section.crc < 1 << 32, f"{place}: negative number")
        num_pieces += section.num_pieces
        if section.num_pieces:
            _require(section.num_lanes <= MAX_LANES, f"{place}: {section.num_lanes} lanes, at most {MAX_LANES}")
            coded = 4 * section.num_lanes + 2 * section.num_words
            _require(coded <= section.length, f"{place}: {coded} coded bytes in {section.length}")
        else:
            _require(section.num_words <= MAX_RESIDUE_BYTES, f"{place}: residue of {section.num_words} bytes")
            residue_bytes -= section.num_words
    _require(num_pieces == len(header.pieces), f"{num_pieces} pieces in sections, {len(header.pieces)} described")
    _require(residue_bytes == 0, f"residue differs from what the pieces leave by {residue_bytes} bytes")


def _check_piece(piece: AnyPiece, position: int, place: str) -> None:
    if isinstance(piece, (Copy, Scaled, Extremes)):
        _require(piece.offset >= 0 and piece.offset + piece.length <= position, f"{place}: refers to {piece.offset}")
    if isinstance(piece, Copy):
        _require(piece.length <= 8 * MAX_ELEMENTS, f"{place}: copies {piece.length} bytes")
        return
    _check_grid(piece.grid, place)
    matrix = piece.mask if isinstance(piece, Codebook) and piece.mask is not None else piece.grid
    _check_grid(matrix, place)
    count = matrix.rows * matrix.columns
    if isinstance(piece, Integers):
        _require(piece.bits in {4, 8, 16, 32, 64}, f"{place}: integers of {piece.bits} bits")
        _require(count * piece.bits == piece.length * 8, f"{place}: {count} integers in {piece.length} bytes")
        _require(-(1 << 62) <= piece.base < 1 << 62, f"{place}: base {piece.base}")
        taps_fit = piece.bits == 8 and piece.grid.columns <= MAX_TAPS
        _require(taps_fit or not piece.has_taps, f"{place}: predicts {piece.grid.columns} columns")
        return
    item_bytes = 4 if isinstance(piece, (Scaled, Extremes)) else piece.item_bytes
    _require(item_bytes in {2, 4, 8}, f"{place}: elements of {item_bytes} bytes")
    _require(count * item_bytes == piece.length, f"{place}: {count} elements in {piece.length} bytes")
    if isinstance(piece, Wide):
        _check_wide(piece, place)
    elif isinstance(piece, Codebook):
        values = piece.values
        num_values = values.grid.rows * values.grid.columns
        fits = piece.grid.num_levels <= num_values <= MAX_LEVELS and not values.is_float
        _require(fits and item_bytes < 8, f"{place}: codebook of another size")
        _require(0 <= piece.zero < num_values, f"{place}: zero at {piece.zero} of {num_values}")
        _require(piece.mask is None or piece.mask.num_levels <= 2, f"{place}: mask of more than two levels")
        _check_grid(values.grid, place)
        _check_wide(values, place)
    else:
        _require(0 <= piece.ratio < 1 << 32, f"{place}: ratio {piece.ratio}")
        _require(abs(piece.base) < 1 << 31, f"{place}: base {piece.base}")
        _require(not piece.grid.num_contexts, f"{place}: contexts in a sequence")
    if isinstance(piece, Extremes):
        _check_extremes(piece, position, count, place)


def _check_extremes(piece: Extremes, position: int, count: int, place: str) -> None:
    fits = 1 <= piece.weights_bytes <= MAX_ELEMENTS and piece.weights_bytes % count == 0
    _require(fits, f"{place}: {count} channels in {piece.weights_bytes} weights")
    _require(0 <= piece.weights <= position - piece.weights_bytes, f"{place}: weights at {piece.weights}")
    if piece.others is not None:
        _check_grid(piece.others.grid, place)
        _check_wide(piece.others, place)
        _require(not piece.others.is_float, f"{place}: differences are integers")


def _check_wide(piece: Wide, place: str) -> None:
    most = 8 * piece.item_bytes - 2 if piece.is_float else 3
    _require(0 <= piece.shift <= most, f"{place}: shift {piece.shift}")
    _require(0 <= piece.base < 1 << 62, f"{place}: base {piece.base}")
    _require(not piece.grid.num_contexts, f"{place}: contexts in a sequence")


def _check_grid(grid: Grid, place: str) -> None:
    _require(grid.rows >= 1 and 1 <= grid.columns <= MAX_ELEMENTS, f"{place}: {grid.rows} x {grid.columns}")
    _require(grid.rows * grid.columns <= MAX_ELEMENTS, f"{place}: {grid.rows} x {grid.columns} elements")
    _require(grid.columns <= MAX_COLUMNS or not grid.num_contexts, f"{place}: {grid.columns} columns")
    _require(1 <= grid.num_levels <= MAX_LEVELS, f"{place}: {grid.num_levels} levels")
    _require(-CENTRE <= grid.low <= CENTRE - grid.num_levels + 1, f"{place}: levels from {grid.low}")
    last = grid.first_context + grid.num_contexts
    _require(grid.first_context >= 0 <= grid.num_contexts and last <= NUM_CONTEXTS, f"{place}: contexts to {last}")
    _require(grid.num_contexts > 0 or grid.first_context == 0, f"{place}: a context in a sequence")
    _require(1 <= grid.magnitude <= 16 * CENTRE, f"{place}: magnitude {grid.magnitude}")
    _require(1 <= grid.row_prior <= 255, f"{place}: row prior {grid.row_prior}")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise IntegrityError(f"the header makes no sense: {what}", hint="get the file again")
