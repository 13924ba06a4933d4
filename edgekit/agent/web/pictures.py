"""Pictures for viewers: each is coded once, whoever looks."""

from __future__ import annotations

from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.agent.live import Shot

MAX_WIDTH = 960
"""Pixels. Pictures that the camera did not code itself are made smaller than this for viewers."""

_JPEG_QUALITY = 80

BOUNDARY = b"edgekit-frame"


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A coded picture.

    Args:
        jpeg: The file.
        sequence: Of the frame.
        captured_ns: Of the frame, on CLOCK_MONOTONIC.
    """

    jpeg: bytes
    sequence: int
    captured_ns: int


def encode_shot(shot: Shot) -> Picture | None:
    """Code a picture as JPEG, at most `MAX_WIDTH` wide; what the camera coded goes through untouched.

    Returns:
        None when there is nothing that could be coded (an empty picture, one of more than 65,500 rows).
    """
    answer = shot.answer
    jpeg = shot.jpeg
    if jpeg is None and shot.picture is not None:
        jpeg = _encode(shot.picture, is_rgb=shot.color_order == "rgb")
    if jpeg is None:
        return None
    return Picture(jpeg=jpeg, sequence=answer.sequence, captured_ns=answer.captured_ns)


def multipart_opening() -> bytes:
    """What a stream begins with."""
    return b"--" + BOUNDARY + b"\r\n"


def multipart_part(picture: Picture) -> bytes:
    """One picture of a stream, with the boundary behind it: browsers show a picture when they see its end."""
    head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\nX-Frame-Sequence: %d\r\n\r\n"
    return b"".join(
        (head % (len(picture.jpeg), picture.sequence), picture.jpeg, b"\r\n--", BOUNDARY, b"\r\n"),
    )


def _encode(picture: npt.NDArray[np.uint8], *, is_rgb: bool) -> bytes | None:
    import cv2

    height, width = picture.shape[:2]
    try:
        if width > MAX_WIDTH:
            size = (MAX_WIDTH, max(1, round(height * MAX_WIDTH / width)))
            picture = cast("npt.NDArray[np.uint8]", cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        if is_rgb and picture.ndim == 3 and picture.shape[2] == 3:
            picture = cast("npt.NDArray[np.uint8]", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        is_coded, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    except cv2.error:
        return None
    return jpeg.tobytes() if is_coded else None
