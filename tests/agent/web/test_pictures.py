"""How a picture becomes bytes for viewers."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from agent_live import make_answer, paint
from edgekit.agent.live import Shot
from edgekit.agent.web.pictures import BOUNDARY, MAX_WIDTH, Picture, encode_shot, multipart_part
from edgekit.core.frame import ColorOrder


def shot(picture: npt.NDArray[np.uint8], color_order: ColorOrder = "rgb", jpeg: bytes | None = None) -> Shot:
    return Shot(jpeg=jpeg, picture=picture, color_order=color_order, answer=make_answer(7))


def decode(picture: Picture | None) -> npt.NDArray[np.uint8]:
    """RGB."""
    assert picture is not None
    pixels = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return (pixels if pixels.ndim == 2 else pixels[:, :, ::-1]).astype(np.uint8)


def test_camera_jpeg_goes_through_untouched() -> None:
    camera_bytes = b"\xff\xd8 whatever the camera sent \xff\xd9"

    picture = encode_shot(Shot(jpeg=camera_bytes, picture=None, color_order="rgb", answer=make_answer(7)))

    assert picture is not None
    assert picture.jpeg is camera_bytes
    assert picture.sequence == 7


@pytest.mark.parametrize("color_order", ["rgb", "bgr"])
def test_colors_are_right_in_either_order(color_order: ColorOrder) -> None:
    rgb = paint(3)
    stored = rgb if color_order == "rgb" else np.ascontiguousarray(rgb[:, :, ::-1])

    seen = decode(encode_shot(shot(stored, color_order)))

    assert seen.shape == rgb.shape
    assert np.abs(seen.astype(int) - rgb).mean() < 6


def test_gray_stays_gray() -> None:
    gray = paint(3)[:, :, :1].copy()

    seen = decode(encode_shot(shot(gray, "gray")))

    assert seen.shape == (480, 640)
    assert np.abs(seen.astype(int) - gray[:, :, 0]).mean() < 6


@pytest.mark.parametrize(("width", "height"), [(MAX_WIDTH, 540), (1920, 1080), (3000, 1), (961, 7)])
def test_wide_pictures_become_narrower_in_the_same_shape(width: int, height: int) -> None:
    seen = decode(encode_shot(shot(np.zeros((height, width, 3), np.uint8))))

    assert seen.shape[1] == min(width, MAX_WIDTH)
    assert seen.shape[0] == max(1, round(height * seen.shape[1] / width))


@pytest.mark.parametrize("shape", [(70_000, 2, 3), (0, 5, 3)])
def test_picture_that_no_jpeg_can_hold_is_left_out(shape: tuple[int, int, int]) -> None:
    assert encode_shot(shot(np.zeros(shape, np.uint8))) is None


def test_part_ends_with_the_next_boundary() -> None:
    """Chromium shows a picture when it has seen the boundary behind it."""
    part = multipart_part(Picture(jpeg=b"JPEG", sequence=7, captured_ns=0))

    head, _, rest = part.partition(b"\r\n\r\n")
    assert b"Content-Length: 4" in head
    assert rest == b"JPEG\r\n--" + BOUNDARY + b"\r\n"
