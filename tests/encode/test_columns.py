from __future__ import annotations

import io

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import IntegrityError
from edgekit.encode.columns import ColumnHeader, from_columns, to_columns
from edgekit.encode.container import read_front
from edgekit.encode.grids import Grid
from edgekit.encode.lines import Line
from edgekit.encode.packing import pack
from edgekit.encode.pieces import AnyPiece, Codebook, Copy, Ends, Header, Integers, Numbers, Pole, Scaled, Section, Wide
from model_bytes import tflite_bytes, typical_tensors

numbers = st.integers(-(2**40), 2**40)
lines = st.builds(Line, numbers, numbers, numbers)
grids = st.builds(Grid, numbers, numbers, numbers, numbers, numbers, numbers, numbers, numbers)
number_pieces = st.builds(
    Numbers,
    numbers,
    numbers,
    numbers,
    st.booleans(),
    st.booleans(),
    numbers,
    lines,
    st.none() | st.builds(Pole, numbers, numbers, lines, lines),
)
wide_pieces = st.builds(Wide, numbers, numbers, numbers, st.booleans(), numbers, numbers, grids)
pieces = st.one_of(
    st.builds(Copy, numbers, numbers, numbers),
    st.builds(Integers, numbers, numbers, numbers, numbers, grids, st.booleans(), st.booleans(), st.booleans()),
    st.builds(
        Codebook,
        numbers,
        numbers,
        numbers,
        wide_pieces | number_pieces,
        grids,
        st.booleans(),
        st.none() | grids,
        numbers,
        st.booleans(),
    ),
    st.builds(Scaled, numbers, numbers, numbers, numbers, numbers, grids),
    st.builds(
        Ends, numbers, numbers, numbers, st.booleans(), numbers, numbers, st.booleans(), lines, st.none() | lines
    ),
    number_pieces,
)
sections = st.builds(Section, numbers, numbers, numbers, numbers, numbers)


@given(st.lists(pieces.filter(lambda piece: piece.length != 0), max_size=8), st.lists(sections, max_size=3))
def test_columns_round_trip(some: list[AnyPiece], others: list[Section]) -> None:
    header = Header("onnx", 5, bytes(32), tuple(others), tuple(some))
    raw = msgspec.msgpack.encode(to_columns(header))
    restored = from_columns(msgspec.msgpack.decode(raw, type=ColumnHeader))
    assert restored == header


def test_columns_are_shorter_than_descriptions() -> None:
    packed = pack(tflite_bytes(typical_tensors())).content
    header = read_front(io.BytesIO(packed), len(packed))
    header = msgspec.structs.replace(header, pieces=header.pieces * 8)
    assert len(msgspec.msgpack.encode(to_columns(header))) < len(msgspec.msgpack.encode(header))


HEADER = to_columns(Header("unknown", 96, bytes(32), (), (Copy(1, 32, 7), Copy(0, 32, 0), Copy(3, 32, 1))))
CHANGES: list[dict[str, object]] = [
    {"order": [0, 0]},
    {"order": [0, 0, 0, 0]},
    {"order": [0, 0, 1]},
    {"order": [0, 0, -1]},
    {"forms": []},
    {"forms": [[0, 0, 0]]},
    {"forms": [[0] * 65]},
    {"forms": [[[[[0, 0], 0]], 0]]},
    {"columns": [b""]},
    {"columns": [b"\xff" * 40]},
    {"columns": []},
    {"are_rising": [0, 0]},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_columns_are_refused_when_they_do_not_fit(change: dict[str, object]) -> None:
    with pytest.raises((IntegrityError, msgspec.ValidationError)):
        from_columns(msgspec.structs.replace(HEADER, **change))


def test_columns_of_a_hundred_thousand_forms_are_read_in_no_time() -> None:
    many = 100_000
    header = ColumnHeader("unknown", 0, bytes(32), (), [[]] * many, [many] * many, [b""] * many, [0] * many)
    with pytest.raises(IntegrityError, match="form 100000 of 100000"):
        from_columns(header)
