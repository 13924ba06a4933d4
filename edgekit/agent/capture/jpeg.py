"""One JPEG from a camera to pixels, at no more resolution than is needed."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from edgekit.agent.camera import MAX_JPEG_BYTES, MAX_PIXELS, Room, Shot, choose_reduction, copy_into
from edgekit.core.errors import DataError
from edgekit.core.frame import ColorOrder
from edgekit.runtime.picture_header import read_header

# RGB is what models want: asked of the decoder, nobody has to swap channels. OpenCV can do it since 4.11.
_RGB: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)
_COLOR_ORDER: ColorOrder = "bgr" if _RGB is None else "rgb"
_COLOR = cv2.IMREAD_COLOR if _RGB is None else _RGB
_FLAGS = {
    1: _COLOR,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | _COLOR,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | _COLOR,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | _COLOR,
}
"""By how much smaller it is decoded. IMREAD_REDUCED_COLOR_2 and the like are these with the bit of IMREAD_COLOR."""


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
    full_size = (header.height, header.width)
    return Shot(picture=copy_into(room, pixels), color_order=_COLOR_ORDER, jpeg=content, full_size=full_size)
