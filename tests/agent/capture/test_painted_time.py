"""A time that is painted can be read, after JPEG and scaling too, and nothing else is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.agent.capture.painted_time import paint_time, read_time

SIZES = st.tuples(st.integers(60, 400), st.integers(80, 800)).filter(lambda size: size[0] * 13 >= size[1])


@given(size=SIZES, channels=st.sampled_from([1, 3]), time_ns=st.integers(0, 2**64 - 1))
def test_time_is_read_back(size: tuple[int, int], channels: int, time_ns: int) -> None:
    picture = np.full((*size, channels), 99, np.uint8)

    paint_time(picture, time_ns)

    assert read_time(picture) == time_ns


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_time_survives_jpeg_and_scaling(scale: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    paint_time(picture, 123_456_789_012_345)
    coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
    flag = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}[scale]

    decoded = cv2.imdecode(coded, flag)

    assert decoded is not None
    assert decoded.shape[0] == 480 // scale
    assert read_time(decoded.astype(np.uint8)) == 123_456_789_012_345


def test_nothing_is_read_where_no_time_is() -> None:
    random = np.random.default_rng(1)
    pictures = [random.integers(0, 256, (48, 160, 3), np.uint8) for _ in range(100)]
    pictures += [
        np.zeros((48, 160, 3), np.uint8),
        np.full((48, 160, 3), 255, np.uint8),
        np.zeros((2, 160, 3), np.uint8),
    ]

    assert all(read_time(picture) is None for picture in pictures)


@pytest.mark.parametrize("size", [(48, 79), (10, 640)])
def test_picture_without_room_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no room"):
        paint_time(np.zeros((*size, 3), np.uint8), 5)
