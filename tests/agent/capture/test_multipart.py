"""MJPEG streams in pieces of any size, from tidy and sloppy cameras."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.agent.camera import MAX_JPEG_BYTES
from edgekit.agent.capture.multipart import PartParser, find_boundary
from edgekit.core.errors import DataError

JPEG = cv2.imencode(".jpg", np.full((16, 16, 3), 90, np.uint8))[1].tobytes()

BODIES = st.lists(st.binary(max_size=200).filter(lambda body: b"--frame" not in body), min_size=1, max_size=5)


def collect(stream: bytes, cuts: list[int], boundary: bytes | None = b"--frame") -> list[bytes]:
    """All parts, the stream fed in pieces."""
    parser = PartParser(boundary)
    parts: list[bytes] = []
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(edges):
        parser.feed(stream[begin:end])
        while (part := parser.next_part()) is not None:
            parts.append(part)
    return parts


@given(bodies=BODIES, cuts=st.lists(st.integers(0, 5000), max_size=20))
def test_parts_with_a_length_come_out_however_they_are_cut(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(
        b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(body), body)
        for body in bodies
    )

    assert collect(stream, cuts) == bodies


@given(bodies=BODIES, cuts=st.lists(st.integers(0, 5000), max_size=20))
def test_parts_without_a_length_come_out_at_the_next_boundary(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n%b\r\n" % body for body in bodies) + b"--frame"

    assert [part.rstrip(b"\r\n") for part in collect(stream, cuts)] == [body.rstrip(b"\r\n") for body in bodies]


def test_jpeg_without_a_length_does_not_wait_for_the_next_boundary() -> None:
    stream = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + JPEG

    assert collect(stream + b"\r\n", []) == [JPEG]
    assert collect(stream + b"\r\n--frame\r\n\r\n" + JPEG, [len(stream)]) == [JPEG, JPEG]
    assert collect(stream[:-1], []) == []


@pytest.mark.parametrize(
    "head",
    [
        b"--frame\nContent-Length: %d\n\n",
        b"--frame\r\ncontent-LENGTH:%d \r\nX-Time: 5\r\n\r\n",
        b"\r\n\r\n--frame\r\nContent-Length: %d\r\n\r\n",
        b"noise before the first part--frame\r\nContent-Length: %d\r\n\r\n",
    ],
)
def test_sloppy_headers_are_read(head: bytes) -> None:
    assert collect((head % len(JPEG) + JPEG) * 2, [7, 31]) == [JPEG, JPEG]


@pytest.mark.parametrize("declared", [5, 100_000])
def test_stream_is_found_again_after_a_wrong_length(declared: int) -> None:
    wrong = b"--frame\r\nContent-Length: %d\r\n\r\n" % declared + JPEG + b"\r\n"
    good = b"--frame\r\nContent-Length: %d\r\n\r\n" % len(JPEG) + JPEG + b"\r\n"

    parts = collect(wrong + good * (1 + 100_000 // len(good)), [])

    assert parts.count(JPEG) >= 1


@pytest.mark.parametrize(
    "stream",
    [
        b"--frame\r\n" + b"X-Header: y\r\n" * 3000,
        b"--frame\r\nContent-Length: %d\r\n\r\n" % (MAX_JPEG_BYTES + 1),
        b"--frame\r\nContent-Length: 999999999999\r\n\r\n",
    ],
)
def test_part_larger_than_any_picture_is_refused(stream: bytes) -> None:
    with pytest.raises(DataError):
        collect(stream, [])


@pytest.mark.parametrize("cut", [0, 1, 9, 10, 11, 30])
def test_boundary_is_learnt_from_the_first_line(cut: int) -> None:
    stream = b"--ffmpeg\r\nContent-length: %d\r\n\r\n" % len(JPEG) + JPEG + b"\r\n"

    assert collect(stream * 2, [cut], boundary=None) == [JPEG, JPEG]


def test_stream_without_a_boundary_is_refused() -> None:
    with pytest.raises(DataError, match="expected a boundary"):
        collect(b"<html>" + bytes(300), [], boundary=None)


def test_endless_noise_takes_no_memory() -> None:
    parser = PartParser(b"--frame")
    for _ in range(100):
        parser.feed(bytes(100_000))
        assert parser.next_part() is None

    assert parser.num_kept < 100
    assert len(parser._buffer) < 1_000_000


def test_endless_part_without_a_length_is_refused() -> None:
    mebibyte = 1024 * 1024
    stream = b"--frame\r\n\r\n" + bytes(40 * mebibyte)
    with pytest.raises(DataError, match="a part of more than"):
        collect(stream, [count * mebibyte for count in range(40)])


@given(noise=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 3000), max_size=10))
def test_any_bytes_are_taken_apart_or_refused(noise: bytes, cuts: list[int]) -> None:
    try:
        parts = collect(b"--frame\r\n" + noise, cuts)
    except DataError:
        return
    assert sum(map(len, parts)) <= len(noise)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/x-mixed-replace; boundary=frame", b"--frame"),
        ("multipart/x-mixed-replace;boundary=--frame", b"--frame"),
        ('multipart/x-mixed-replace; charset=x; Boundary = "a b"', b"--a b"),
        ("multipart/x-mixed-replace", None),
        ("image/jpeg", None),
        ("", None),
    ],
)
def test_boundary_is_read_from_the_type(content_type: str, boundary: bytes | None) -> None:
    assert find_boundary(content_type) == boundary
