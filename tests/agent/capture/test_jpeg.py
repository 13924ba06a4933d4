"""JPEG from a camera: decoded as large as needed, and never because a header says so."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from camera_waits import plain_room
from edgekit.agent.capture.jpeg import decode_jpeg
from edgekit.core.errors import DataError

PICTURE = np.full((480, 640, 3), (10, 120, 230), np.uint8)
JPEG = cv2.imencode(".jpg", PICTURE)[1].tobytes()


def declare_size(jpeg: bytes, height: int, width: int) -> bytes:
    """The same JPEG with another size in its header."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


@pytest.mark.parametrize(
    ("min_size", "shape"),
    [(None, (480, 640, 3)), ((224, 224), (240, 320, 3)), ((100, 100), (120, 160, 3)), ((500, 500), (480, 640, 3))],
)
def test_jpeg_is_decoded_as_large_as_needed(min_size: tuple[int, int] | None, shape: tuple[int, int, int]) -> None:
    shot = decode_jpeg(JPEG, plain_room, min_size)

    assert shot.picture.shape == shape
    assert shot.jpeg == JPEG
    assert shot.full_size == (480, 640)
    colors = shot.picture if shot.color_order == "bgr" else shot.picture[:, :, ::-1]
    assert np.abs(colors.astype(int) - (10, 120, 230)).max() <= 8


@pytest.mark.parametrize(("reduction", "flag"), [(1, 1), (2, 17), (4, 33), (8, 65)])
def test_pixels_are_those_that_opencv_gives_in_its_own_order(reduction: int, flag: int) -> None:
    noise = cv2.resize(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8), (640, 480))
    jpeg = cv2.imencode(".jpg", noise)[1]

    shot = decode_jpeg(jpeg.tobytes(), plain_room, (480 // reduction, 640 // reduction))

    expected = cv2.imdecode(jpeg, flag)
    assert expected is not None
    assert (shot.picture == (expected if shot.color_order == "bgr" else expected[:, :, ::-1])).all()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd9",
        b"no picture at all",
        JPEG[: len(JPEG) // 2],
        JPEG[:-2],
        declare_size(JPEG, 65500, 65500),
        declare_size(JPEG, 0, 640),
        cv2.imencode(".png", PICTURE)[1].tobytes(),
    ],
    ids=["0 bytes", "2 bytes", "no frame", "text", "half", "no end", "65500 pixels", "0 rows", "PNG"],
)
def test_bad_picture_is_an_error_of_this_picture_alone(content: bytes) -> None:
    with pytest.raises(DataError):
        decode_jpeg(content, plain_room, None)
