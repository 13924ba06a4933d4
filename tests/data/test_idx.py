from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.core.errors import DataError
from edgekit.data.idx import read_idx


def encode_idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@given(array=hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4, max_side=6)), packed=st.booleans())
def test_read_idx_returns_what_was_written(
    array: np.ndarray, packed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("idx") / "file"
    content = encode_idx(array)
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    assert np.array_equal(read_idx(path), array)


GOOD = encode_idx(np.zeros((3, 2), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no IDX file"),
        (b"<html>not found</html>", "no IDX file"),
        (b"\0\0\x0d" + GOOD[3:], "no IDX file of unsigned bytes"),
        (GOOD[:-1], "expected 18 bytes for shape .3, 2., got 17"),
        (GOOD + b"x", "expected 18 bytes"),
        (GOOD[:6], "expected a header of 12 bytes, got 6"),
        (gzip.compress(GOOD, mtime=0)[:-9], "cannot read"),
        (b"\x1f\x8b" + bytes(30), "cannot read"),
    ],
)
def test_read_idx_names_the_file_when_it_is_damaged(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "train-labels"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in caught.value.message


def test_read_idx_names_the_file_when_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent"):
        read_idx(tmp_path / "absent")
