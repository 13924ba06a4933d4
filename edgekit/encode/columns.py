"""The header as columns: what the same field of all descriptions of a form holds, one after another.

Neighbours in such a column resemble each other, so they compress better than descriptions that are written one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from typing import Any, TypeAlias, cast

import msgspec

from edgekit.core.errors import IntegrityError
from edgekit.encode.pieces import (
    AnyPiece,
    Codebook,
    Copy,
    Ends,
    Extremes,
    FileKind,
    Header,
    Integers,
    Numbers,
    Scaled,
    Section,
)

Nested: TypeAlias = "int | list[Nested] | None"

_MOST_LEAVES = 64
"""Fields in a form: the most that a description has is half of it."""

_MORE = 0x80
"""A byte from here on says that the number goes on in the next."""

_MOST_SHIFT = 70


class ColumnHeader(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A `Header`, since version 2.

    Args:
        kind: As there.
        size_bytes: As there.
        sha256: As there.
        sections: As there.
        forms: What descriptions look like: their nesting, with 0 for every number.
        order: The form of each piece.
        columns: For each form, the numbers at each of its zeros, in the order of the pieces: seven bits a byte, the
            lowest first, the sign in the lowest bit.
        are_rising: For each form, a bit for each column, from the lowest: differences to the number before.
    """

    kind: FileKind
    size_bytes: int
    sha256: bytes
    sections: tuple[Section, ...]
    forms: list[Any]
    order: list[int]
    columns: list[bytes]
    are_rising: list[int]


def to_columns(header: Header) -> ColumnHeader:
    """Rearrange a header."""
    forms: list[Nested] = []
    order: list[int] = []
    rows: list[list[list[int]]] = []
    places = _Places()
    for piece in header.pieces:
        numbers: list[int] = []
        form = _form(cast("Nested", msgspec.to_builtins(places.shorten(piece))), numbers)
        if form not in forms:
            forms.append(form)
            rows.append([])
        index = forms.index(form)
        order.append(index)
        rows[index].append(numbers)
    columns = [_columns(some) for some in rows]
    return ColumnHeader(
        header.kind,
        header.size_bytes,
        header.sha256,
        header.sections,
        forms,
        order,
        [content for content, _ in columns],
        [are_rising for _, are_rising in columns],
    )


def from_columns(header: ColumnHeader) -> Header:
    """The inverse of `to_columns`; what comes back is not checked.

    Raises:
        IntegrityError: Columns and forms do not fit each other.
        msgspec.ValidationError: Something is no description.
    """
    num_forms = len(header.forms)
    if not num_forms == len(header.columns) == len(header.are_rising):
        raise IntegrityError(f"{num_forms} forms, columns of {len(header.columns)}")
    num_rows = Counter(header.order)
    rows = [
        _rows(content, _num_zeros(form), num_rows[index], are_rising)
        for index, (form, content, are_rising) in enumerate(
            zip(header.forms, header.columns, header.are_rising, strict=True)
        )
    ]
    pieces: list[AnyPiece] = []
    places = _Places()
    for index in header.order:
        if not 0 <= index < num_forms:
            raise IntegrityError(f"form {index} of {num_forms}")
        nested = _filled(header.forms[index], iter(next(rows[index])))
        pieces.append(places.lengthen(msgspec.convert(nested, type=AnyPiece, strict=False)))
    return Header(header.kind, header.size_bytes, header.sha256, header.sections, tuple(pieces))


class _Places:
    """Writes a length that follows from the rest as 0, and where another piece begins as how many pieces ago it was.

    Such a number of pieces is doubled; any other offset is doubled, plus one.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._indices: dict[int, int] = {}
        self._end = 0

    def shorten(self, piece: AnyPiece) -> AnyPiece:
        """For the columns."""
        changes = {field: self._to_number(getattr(piece, field)) for field in _referring(piece)}
        if piece.length == _natural_length(piece):
            changes["length"] = 0
        self._add(piece)
        return msgspec.structs.replace(piece, **changes)

    def lengthen(self, piece: AnyPiece) -> AnyPiece:
        """As it was."""
        changes = {field: self._to_offset(getattr(piece, field)) for field in _referring(piece)}
        if piece.length == 0:
            changes["length"] = _natural_length(piece)
        piece = msgspec.structs.replace(piece, **changes)
        self._add(piece)
        return piece

    def _add(self, piece: AnyPiece) -> None:
        start = self._end + piece.gap
        self._indices[start] = len(self._starts)
        self._starts.append(start)
        self._end = start + piece.length

    def _to_number(self, offset: int) -> int:
        index = self._indices.get(offset)
        return 2 * offset + 1 if index is None else 2 * (len(self._starts) - index)

    def _to_offset(self, number: int) -> int:
        if number % 2 or not 0 < number // 2 <= len(self._starts):
            return number // 2
        return self._starts[-(number // 2)]


def _referring(piece: AnyPiece) -> tuple[str, ...]:
    if isinstance(piece, (Ends, Extremes)):
        return ("offset", "weights")
    return ("offset",) if isinstance(piece, (Copy, Scaled)) else ()


def _natural_length(piece: AnyPiece) -> int:
    """Bytes of as many elements as are coded; 0 where none are."""
    if isinstance(piece, Copy):
        return 0
    if isinstance(piece, Numbers):
        return piece.size * piece.item_bytes
    if isinstance(piece, Ends):
        return 4 * sum(line.size for line in (piece.full, piece.rest) if line is not None)
    grid = piece.mask if isinstance(piece, Codebook) and piece.mask is not None else piece.grid
    count = grid.rows * grid.columns
    if isinstance(piece, Integers):
        return count * piece.bits // 8
    return count * (4 if isinstance(piece, (Scaled, Extremes)) else piece.item_bytes)


def _form(nested: Nested, numbers: list[int]) -> Nested:
    """The nesting, with 0 for every number; the numbers are appended."""
    if isinstance(nested, list):
        return [_form(one, numbers) for one in nested]
    if nested is None:
        return None
    numbers.append(int(nested))
    return 0


def _filled(form: Nested, numbers: Iterator[int]) -> Nested:
    if isinstance(form, list):
        return [_filled(one, numbers) for one in form]
    return None if form is None else next(numbers)


def _num_zeros(form: Nested) -> int:
    """Numbers in a form. Raises `IntegrityError` when it is none, or too large."""
    leaves = [form]
    num_zeros = num_seen = 0
    while leaves:
        leaf = leaves.pop()
        num_seen += 1
        if num_seen > _MOST_LEAVES:
            raise IntegrityError(f"a description of more than {_MOST_LEAVES} fields")
        if isinstance(leaf, list):
            leaves += leaf
        elif leaf is not None:
            num_zeros += 1
    return num_zeros


def _columns(rows: list[list[int]]) -> tuple[bytes, int]:
    """Each column as it is, or as differences, whichever has the smaller numbers."""
    content = bytearray()
    are_rising = 0
    for index, values in enumerate(zip(*rows, strict=True)):
        rising = [second - first for first, second in zip(chain([0], values), values, strict=False)]
        packed = [_to_varints(values), _to_varints(rising)]
        is_rising = len(packed[1]) < len(packed[0]) or len(set(rising)) < len(set(values))
        are_rising |= is_rising << index
        content += packed[is_rising]
    return bytes(content), are_rising


def _rows(content: bytes, num_columns: int, num_rows: int, are_rising: int) -> Iterator[tuple[int, ...]]:
    values = _from_varints(content)
    if len(values) != num_columns * num_rows:
        raise IntegrityError(f"{len(values)} numbers for {num_rows} descriptions of {num_columns}")
    columns = [values[index * num_rows : (index + 1) * num_rows] for index in range(num_columns)]
    return zip(*(accumulate(one) if are_rising >> index & 1 else one for index, one in enumerate(columns)), strict=True)


def _to_varints(values: Sequence[int]) -> bytes:
    content = bytearray()
    for value in values:
        rest = 2 * value if value >= 0 else -2 * value - 1
        while rest >= _MORE:
            content.append(rest % _MORE + _MORE)
            rest //= _MORE
        content.append(rest)
    return bytes(content)


def _from_varints(content: bytes) -> list[int]:
    values: list[int] = []
    value = shift = 0
    for byte in content:
        value |= (byte % _MORE) << shift
        shift += 7
        if byte < _MORE:
            values.append(value // 2 if value % 2 == 0 else -(value + 1) // 2)
            value = shift = 0
        elif shift > _MOST_SHIFT:
            raise IntegrityError("a number of more than 77 bits")
    return values
