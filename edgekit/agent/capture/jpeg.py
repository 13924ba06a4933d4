"""One JPEG from a camera to pixels, at no more resolution than is needed."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from edgekit.agent.camera import MAX_JPEG_BYTES, MAX_PIXELS, Room, Shot, choose_reduction, copy_into
from edgekit.core.errors import DataError
from edgekit.runtime.picture_header import read_header

_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def decode_jpeg(content: bytes, room: Room, min_size: tuple[int, int] | None) -> Shot:
    """Decode a JPEG into the shared memory; its header is believed only up to MAX_PIXELS.

    Args:
        content: The coded picture.
        room: Where it goes.
        min_size: (height, width) that is needed at least; None: in full.

    Raises:
        DataError: Empty, truncated, too large, or no JPEG.
    """
    header = read_header(content)
    if header.format != "jpeg":
        raise DataError(f"{header.format.upper()} picture, expected JPEG")
    if header.height * header.width > MAX_PIXELS or len(content) > MAX_JPEG_BYTES:
        raise DataError(f"JPEG declares {header.width}x{header.height} pixels, at most {MAX_PIXELS} are decoded")
    if not header.is_complete:
        raise DataError(f"JPEG is truncated: its end marker is missing ({len(content)} bytes)")
    flag = _FLAGS[choose_reduction(header.height, header.width, min_size)]
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error as error:
        raise DataError(f"OpenCV cannot decode this JPEG: {error.err}") from error
    pixels = cast("npt.NDArray[np.uint8] | None", picture)
    if pixels is None:
        raise DataError("OpenCV cannot decode this JPEG: damaged")
    return Shot(picture=copy_into(room, pixels), color_order="bgr", jpeg=content)
