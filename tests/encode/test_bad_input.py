from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.core.errors import IntegrityError
from edgekit.encode.container import read_front, write_front
from edgekit.encode.grids import Grid
from edgekit.encode.lanes import MAX_LANES
from edgekit.encode.lines import MAX_LINE_LEVELS, Line
from edgekit.encode.pieces import (
    AnyPiece,
    Codebook,
    Copy,
    Ends,
    Extremes,
    Header,
    Integers,
    Numbers,
    Pole,
    Scaled,
    Section,
    Wide,
)
from edgekit.encode.residue import compress
from edgekit.encode.unpacking import MemorySink, unpack

GOLDEN = Path(__file__).parent.parent / "golden"


def restored(packed: bytes, max_bytes: int = 1 << 31) -> bytes:
    sink = MemorySink()
    unpack(io.BytesIO(packed), len(packed), sink, max_bytes=max_bytes)
    return bytes(sink.content)


@pytest.fixture(scope="module", params=[1, 2])
def golden(request: pytest.FixtureRequest) -> bytes:
    return (GOLDEN / f"ekz_v{request.param}.ekz").read_bytes()


@pytest.mark.parametrize("version", [1, 2])
def test_every_version_is_read_for_ever(version: int) -> None:
    packed = (GOLDEN / f"ekz_v{version}.ekz").read_bytes()
    assert packed[8] == version
    assert restored(packed) == (GOLDEN / f"ekz_v{version}.tflite").read_bytes()


def test_golden_files_hold_every_kind_of_piece() -> None:
    pieces: list[AnyPiece] = []
    for version in (1, 2):
        packed = (GOLDEN / f"ekz_v{version}.ekz").read_bytes()
        pieces += read_front(io.BytesIO(packed), len(packed)).pieces
    assert any(isinstance(piece, Codebook) and piece.is_integer for piece in pieces)
    assert {type(piece) for piece in pieces} == {Copy, Integers, Codebook, Wide, Scaled, Extremes, Numbers, Ends}


@pytest.mark.slow
@pytest.mark.parametrize("bit", [0, 5])
def test_unpack_finds_every_flipped_byte(golden: bytes, bit: int) -> None:
    for place in range(len(golden)):
        damaged = bytearray(golden)
        damaged[place] ^= 1 << bit
        with pytest.raises(IntegrityError):
            restored(bytes(damaged))


def test_unpack_finds_every_missing_end(golden: bytes) -> None:
    for length in range(len(golden)):
        with pytest.raises(IntegrityError):
            restored(golden[:length])


def test_unpack_refuses_bytes_behind_the_end(golden: bytes) -> None:
    with pytest.raises(IntegrityError, match="header says"):
        restored(golden + b"x")


def test_unpack_says_which_section_is_damaged(golden: bytes) -> None:
    damaged = bytearray(golden)
    damaged[-1] ^= 1
    with pytest.raises(IntegrityError, match=r"section \d+ is damaged \(offset \d+ to \d+\)"):
        restored(bytes(damaged))


def test_unpack_says_so_when_the_format_is_newer(golden: bytes) -> None:
    newer = golden[:8] + struct.pack("<H", 3) + golden[10:]
    with pytest.raises(IntegrityError, match="version 3, this edgekit reads up to 2") as caught:
        restored(newer)
    assert caught.value.hint is not None
    assert "newer" in caught.value.hint


def test_unpack_refuses_a_file_of_another_kind() -> None:
    with pytest.raises(IntegrityError, match=r"no \.ekz file"):
        restored(b"\x89PNG\r\n\x1a\n" + bytes(100))


def test_unpack_refuses_more_than_is_wanted(golden: bytes) -> None:
    with pytest.raises(IntegrityError, match="at most 100 are wanted"):
        restored(golden, max_bytes=100)


def test_unpack_refuses_a_header_of_2_gb_in_a_small_file() -> None:
    front = struct.pack("<8sHHII", b"\x89EKZ\r\n\x1a\n", 1, 0, 1 << 31, 900)
    with pytest.raises(IntegrityError, match="header of 2147483648 bytes"):
        restored(front + bytes(1000))


def test_unpack_refuses_random_bytes() -> None:
    with pytest.raises(IntegrityError, match=r"no \.ekz file"):
        restored(np.random.default_rng(1).bytes(5000))


def test_unpack_refuses_random_bytes_behind_a_true_front(golden: bytes) -> None:
    noise = np.random.default_rng(2).bytes(len(golden))
    with pytest.raises(IntegrityError, match="header is damaged"):
        restored(golden[:24] + noise[24:])


def test_residue_never_unpacks_to_more_than_declared() -> None:
    packed = compress(bytes(1 << 20))
    content = ekz(Header("unknown", 10, bytes(32), (section(packed, 10),), ()), packed)
    with pytest.raises(IntegrityError, match="section 0"):
        restored(content)


@pytest.mark.parametrize("size", [-1, (1 << 31) + 1, 1 << 60])
def test_header_is_refused_when_the_size_is_impossible(size: int) -> None:
    with pytest.raises(IntegrityError, match="makes no sense"):
        restored(ekz(Header("unknown", size, bytes(32), (), ())))


GRID = Grid(rows=4, columns=8, num_levels=16, low=-8, first_context=3, num_contexts=4)
SEQUENCE = Grid(rows=1, columns=32, num_levels=16, low=-8)
WIDE = Wide(0, 128, 4, False, 3, 0, SEQUENCE)
BOOK = Wide(0, 64, 4, False, 3, 0, Grid(rows=1, columns=16, num_levels=16, low=0))
LINE = Line(size=32, first=500, num_levels=16)
FLAGS = Line(size=32, first=0, num_levels=2)
NUMBERS = Numbers(0, 128, 4, True, True, 21, LINE)
POLE = Pole(1 << 30, 64, FLAGS, Line(size=16, first=120, num_levels=9))
PEAKED = msgspec.structs.replace(GRID, rows=8, columns=4)
PIECES: list[AnyPiece] = [
    NUMBERS,
    Numbers(0, 128, 4, False, True, 2, msgspec.structs.replace(LINE, size=16), POLE),
    Integers(0, 32, 8, -8, PEAKED, False, False, True),
    Codebook(0, 128, 4, Numbers(0, 64, 4, False, False, 2, Line(16, 0, 200)), GRID),
    Integers(0, 32, 8, -8, GRID),
    Integers(0, 32, 8, -8, GRID, False, True),
    WIDE,
    Codebook(0, 128, 4, BOOK, GRID),
    Codebook(0, 32, 1, Numbers(0, 16, 1, False, True, 2, Line(16, 0, 40)), GRID, is_integer=True),
    Codebook(0, 128, 4, BOOK, SEQUENCE, False, msgspec.structs.replace(GRID, num_levels=2, low=0), 3),
]
REFERRING: list[AnyPiece] = [
    Copy(0, 32, 0),
    Scaled(0, 128, 0, 0x3F800000, 0, SEQUENCE),
    Extremes(0, 128, 0, 0x42FE0000, 0, SEQUENCE, 0, 96, False, WIDE),
    Ends(0, 128, 0, False, 0, 96, False, None, Line(32, 0, 7)),
    Ends(0, 128, 0, True, 0, 96, True, Line(1, 0, 7), Line(31, 5, 1)),
]


@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=3),
    st.lists(st.sampled_from(REFERRING), max_size=2),
    st.binary(max_size=4096),
    st.integers(1, 64),
)
def test_unpack_of_any_words_gives_bytes_or_an_integrity_error(
    first: list[AnyPiece], later: list[AnyPiece], noise: bytes, num_lanes: int
) -> None:
    padded = [WIDE, *first, *later]
    content = noise[: max(0, len(noise) - 64)].ljust(4 * num_lanes, b"\xff") + noise[-64:]
    num_words = (len(content) - 4 * num_lanes) // 3
    one = Section(len(content), zlib.crc32(content), len(padded), num_words, num_lanes)
    size = sum(piece.length for piece in padded)
    with pytest.raises(IntegrityError):  # at the latest, the SHA-256 is wrong
        restored(ekz(Header("unknown", size, bytes(32), (one,), tuple(padded)), content))


GRID_CHANGES = [
    {"rows": 0},
    {"rows": 1 << 40},
    {"columns": 0},
    {"columns": 1 << 40},
    {"num_levels": 0},
    {"num_levels": 257},
    {"low": -256},
    {"low": 250},
    {"first_context": -1},
    {"first_context": 47},
    {"num_contexts": -1},
    {"num_contexts": 0},  # and a first context: found by the fuzzer
    {"num_contexts": 49},
    {"magnitude": 0},
    {"row_prior": 0},
]


@pytest.mark.parametrize("change", GRID_CHANGES, ids=str)
def test_header_is_refused_when_a_grid_is_impossible(change: dict[str, int]) -> None:
    piece = Integers(0, 32, 8, -8, msgspec.structs.replace(GRID, **change))
    with pytest.raises(IntegrityError, match="makes no sense"):
        restored(ekz(Header("unknown", 32, bytes(32), (Section(0, 0, 1, 0, 1),), (piece,))))


LINE_CHANGES = [
    {"size": 0},
    {"size": 31},
    {"size": 1 << 40},
    {"first": -1},
    {"first": MAX_LINE_LEVELS},
    {"num_levels": 0},
    {"num_levels": 257},
]


@pytest.mark.parametrize("change", LINE_CHANGES, ids=str)
def test_header_is_refused_when_a_line_is_impossible(change: dict[str, int]) -> None:
    piece = msgspec.structs.replace(NUMBERS, line=msgspec.structs.replace(LINE, **change))
    with pytest.raises(IntegrityError, match="makes no sense"):
        restored(ekz(Header("unknown", 128, bytes(32), (Section(0, 0, 1, 0, 1),), (piece,))))


PIECE_CHANGES: list[AnyPiece] = [
    msgspec.structs.replace(NUMBERS, item_bytes=3),
    msgspec.structs.replace(NUMBERS, shift=31),
    msgspec.structs.replace(NUMBERS, is_float=False),
    msgspec.structs.replace(NUMBERS, pole=POLE),
    Numbers(0, 128, 4, False, True, 2, LINE, msgspec.structs.replace(POLE, unit=0)),
    Numbers(0, 128, 4, False, True, 2, LINE, msgspec.structs.replace(POLE, places=LINE)),
    Integers(0, 32, 8, -8, PEAKED, False, True, True),
    Integers(0, 32, 8, -8, msgspec.structs.replace(PEAKED, first_context=0, num_contexts=0), False, False, True),
    Ends(0, 32, 0, False, 0, 8, False, None, Line(8, 0, 7)),
    Copy(0, 32, 1),
    Integers(0, 31, 8, -8, GRID),
    Integers(-1, 32, 8, -8, GRID),
    Integers(0, 32, 7, -8, GRID),
    msgspec.structs.replace(WIDE, shift=40),
    msgspec.structs.replace(WIDE, grid=GRID),
    msgspec.structs.replace(WIDE, base=-1),
    Codebook(0, 128, 4, WIDE, GRID),
    Codebook(0, 32, 1, Numbers(0, 16, 1, False, True, 2, Line(16, 0, 40)), GRID),
    Scaled(0, 128, 0, 1, 0, SEQUENCE),
]


@pytest.mark.parametrize("piece", PIECE_CHANGES, ids=lambda piece: type(piece).__name__)
def test_header_is_refused_when_a_piece_is_impossible(piece: AnyPiece) -> None:
    header = Header("unknown", piece.length, bytes(32), (Section(0, 0, 1, 0, 1),), (piece,))
    with pytest.raises(IntegrityError, match="makes no sense"):
        restored(ekz(header))


def test_header_is_refused_with_too_many_lanes() -> None:
    one = Section(4 * MAX_LANES + 4, 0, 1, 0, MAX_LANES + 1)
    with pytest.raises(IntegrityError, match="lanes"):
        restored(ekz(Header("unknown", 32, bytes(32), (one,), (Integers(0, 32, 8, -8, GRID),))))


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_read_front_of_any_bytes_is_an_integrity_error(content: bytes) -> None:
    for front in (content, b"\x89EKZ\r\n\x1a\n\x01\0\0\0" + content, b"\x89EKZ\r\n\x1a\n\x02\0\0\0" + content):
        with pytest.raises(IntegrityError):
            read_front(io.BytesIO(front), len(front))


def section(payload: bytes, size: int) -> Section:
    return Section(len(payload), zlib.crc32(payload), 0, size)


def ekz(header: Header, *payloads: bytes) -> bytes:
    return b"".join([write_front(header), *payloads])
