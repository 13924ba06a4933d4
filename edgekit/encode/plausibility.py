"""Whether the numbers of a header fit each other and stay within their caps: nothing of a file is believed before."""

from __future__ import annotations

from edgekit.core.errors import IntegrityError
from edgekit.encode.grids import Grid
from edgekit.encode.lanes import MAX_LANES
from edgekit.encode.lines import MAX_LINE_LEVELS, Line
from edgekit.encode.pieces import (
    MAX_COLUMNS,
    MAX_ELEMENTS,
    MAX_LEADING,
    MAX_RESIDUE_BYTES,
    MAX_SIZE_BYTES,
    MAX_TAPS,
    NUM_END_LEVELS,
    SHA256_BYTES,
    AnyPiece,
    Codebook,
    Copy,
    Ends,
    Extremes,
    Header,
    Integers,
    Numbers,
    Scaled,
    Wide,
)
from edgekit.encode.tables import CENTRE, MAX_LEVELS, NUM_CONTEXTS


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
    if isinstance(piece, (Copy, Scaled, Extremes, Ends)):
        _require(piece.offset >= 0 and piece.offset + piece.length <= position, f"{place}: refers to {piece.offset}")
    if isinstance(piece, Copy):
        _require(piece.length <= 8 * MAX_ELEMENTS, f"{place}: copies {piece.length} bytes")
    elif isinstance(piece, Numbers):
        _check_numbers(piece, place)
        _require(piece.size * piece.item_bytes == piece.length, f"{place}: {piece.size} in {piece.length} bytes")
    elif isinstance(piece, Ends):
        _check_ends(piece, position, place)
    else:
        _check_gridded(piece, position, place)


def _check_gridded(piece: Integers | Codebook | Wide | Scaled | Extremes, position: int, place: str) -> None:
    _check_grid(piece.grid, place)
    matrix = piece.mask if isinstance(piece, Codebook) and piece.mask is not None else piece.grid
    _check_grid(matrix, place)
    count = matrix.rows * matrix.columns
    if isinstance(piece, Integers):
        _check_integers(piece, count, place)
        return
    item_bytes = 4 if isinstance(piece, (Scaled, Extremes)) else piece.item_bytes
    smallest = 1 if isinstance(piece, Codebook) and piece.is_integer else 2
    _require(item_bytes in {smallest, 2, 4, 8}, f"{place}: elements of {item_bytes} bytes")
    _require(count * item_bytes == piece.length, f"{place}: {count} elements in {piece.length} bytes")
    if isinstance(piece, Wide):
        _check_wide(piece, place)
    elif isinstance(piece, Codebook):
        _check_codebook(piece, item_bytes, place)
    else:
        _require(0 <= piece.ratio < 1 << 32, f"{place}: ratio {piece.ratio}")
        _require(abs(piece.base) < 1 << 31, f"{place}: base {piece.base}")
        _require(not piece.grid.num_contexts, f"{place}: contexts in a sequence")
    if isinstance(piece, Extremes):
        _check_extremes(piece, position, count, place)


def _check_integers(piece: Integers, count: int, place: str) -> None:
    _require(piece.bits in {4, 8, 16, 32, 64}, f"{place}: integers of {piece.bits} bits")
    _require(count * piece.bits == piece.length * 8, f"{place}: {count} integers in {piece.length} bytes")
    _require(-(1 << 62) <= piece.base < 1 << 62, f"{place}: base {piece.base}")
    taps_fit = piece.bits == 8 and piece.grid.columns <= MAX_TAPS
    _require(taps_fit or not piece.has_taps, f"{place}: predicts {piece.grid.columns} columns")
    peaks_fit = piece.grid.num_contexts > 0 and piece.grid.num_levels > 1 and not piece.has_taps
    _require(peaks_fit or not piece.has_peaks, f"{place}: peaks without rows")


def _check_codebook(piece: Codebook, item_bytes: int, place: str) -> None:
    values = piece.values
    num_values = values.size if isinstance(values, Numbers) else values.grid.rows * values.grid.columns
    fits = piece.grid.num_levels <= num_values <= MAX_LEVELS and not values.is_float
    _require(fits and item_bytes < 8, f"{place}: codebook of another size")
    _require(0 <= piece.zero < num_values, f"{place}: zero at {piece.zero} of {num_values}")
    _require(piece.mask is None or piece.mask.num_levels <= 2, f"{place}: mask of more than two levels")
    if isinstance(values, Numbers):
        _check_numbers(values, place)
    else:
        _check_grid(values.grid, place)
        _check_wide(values, place)


def _check_numbers(piece: Numbers, place: str) -> None:
    _require(piece.item_bytes in {1, 2, 4, 8}, f"{place}: elements of {piece.item_bytes} bytes")
    most = 8 * piece.item_bytes - 2 if piece.is_float else MAX_LEADING
    _require(0 <= piece.shift <= most, f"{place}: shift {piece.shift}")
    _require(not piece.is_float or (piece.item_bytes > 1 and piece.pole is None), f"{place}: floats with a pole")
    _check_line(piece.line, place)
    pole = piece.pole
    if pole is not None:
        _check_line(pole.places, place)
        _check_line(pole.distances, place)
        places = pole.places
        _require(places.first + places.num_levels <= 2, f"{place}: places of more than two levels")
        small = 0 <= pole.magnitude < 1 << 62 and 1 <= pole.unit < 1 << 32
        _require(small, f"{place}: pole at {pole.magnitude}")


def _check_ends(piece: Ends, position: int, place: str) -> None:
    count = piece.length // 4
    _require(count >= 1 and piece.length % 4 == 0, f"{place}: ends of {piece.length} bytes")
    _check_weights(piece, position, count, place)
    num_levels = 0
    for line in (piece.full, piece.rest):
        if line is not None:
            _check_line(line, place)
            num_levels += line.size
            _require(line.first + line.num_levels <= NUM_END_LEVELS, f"{place}: ends of {line.num_levels} levels")
    _require(num_levels == count, f"{place}: {num_levels} levels of {count} ends")


def _check_weights(piece: Extremes | Ends, position: int, count: int, place: str) -> None:
    fits = 1 <= piece.weights_bytes <= MAX_ELEMENTS and piece.weights_bytes % count == 0
    _require(fits, f"{place}: {count} channels in {piece.weights_bytes} weights")
    _require(0 <= piece.weights <= position - piece.weights_bytes, f"{place}: weights at {piece.weights}")


def _check_line(line: Line, place: str) -> None:
    _require(1 <= line.size <= MAX_ELEMENTS, f"{place}: a line of {line.size}")
    _require(1 <= line.num_levels <= MAX_LEVELS, f"{place}: {line.num_levels} levels")
    _require(0 <= line.first <= MAX_LINE_LEVELS - line.num_levels, f"{place}: levels from {line.first}")


def _check_extremes(piece: Extremes, position: int, count: int, place: str) -> None:
    _check_weights(piece, position, count, place)
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
