"""Encoded pictures to pixels, the same on the host and on the board. OpenCV decodes; hostile sizes never reach it."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import TypeAlias, cast

import cv2
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import DataError
from edgekit.runtime.picture_header import PictureHeader, read_header

Picture: TypeAlias = npt.NDArray[np.uint8]

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"})
"""Names of files that are taken for pictures in a folder, in lower case."""

MIN_SIDE = 3
"""Fewest rows and columns. Less (a web page's counting pixel, a failed download) is no small picture: enlarged to a
model's input it shows nothing, though a model answers it."""

MAX_PIXELS = 100_000_000
"""Largest declared size that is decoded (300 MB of RGB). Phones make up to 50 megapixels by default."""

MAX_FILE_BYTES = 256 * 1024 * 1024
"""Largest file that is read: a 100-megapixel PNG of noise fits, a film that is called .jpg does not."""

_EXIF_MARKS = (b"Exif", b"eXIf", b"EXIF")


def read_picture(path: Path) -> Picture:
    """Read a picture file.

    EXIF orientation is applied, 16 bits are scaled to 8, palettes are looked up, CMYK is converted, transparency is
    laid over white, and of an animation the first frame is taken. GIF files, and orientation in WebP files, need
    OpenCV 4.11.

    Returns:
        uint8 [height, width, channels], 3 channels (RGB), or 1 (gray) when the file is gray.

    Raises:
        DataError: Missing, unreadable, empty, truncated, too large, or no picture. The message names the file.
    """
    return decode_picture(read_content(path), name=str(path))


def read_content(path: Path) -> bytes:
    """The bytes of a picture file, not decoded.

    Raises:
        DataError: Missing, unreadable, or too large for a picture. The message names the file.
    """
    try:
        if not path.is_file():
            raise DataError(f"no picture at {path}")
        size_bytes = path.stat().st_size
        if size_bytes > MAX_FILE_BYTES:
            raise DataError(f"{path} is no picture: {size_bytes} bytes, at most {MAX_FILE_BYTES} are read")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read picture {path}: {error.strerror or error}") from error


def decode_picture(content: bytes, *, name: str) -> Picture:
    """Decode a picture held in memory; `name` stands for it in messages. Returns and raises as `read_picture`."""
    _silence_opencv()
    try:
        header = read_header(content)
        if header.height * header.width > MAX_PIXELS:
            raise DataError(f"declares {header.width}x{header.height} pixels, at most {MAX_PIXELS} are decoded")
        if min(header.height, header.width) < MIN_SIDE:
            size = f"{header.width}x{header.height}"
            raise DataError(f"{size} pixels, a picture has {MIN_SIDE}x{MIN_SIDE} or more")
        if not header.is_complete:
            raise DataError(f"{header.format.upper()} is truncated: its end marker is missing")
        pixels = _decode(content, header)
        return _to_rgb_or_gray(_to_uint8(pixels))
    except DataError as error:
        hint = "remove the file, or convert it to an 8-bit JPEG or PNG"
        raise DataError(f"unreadable picture {name}: {error.message}", hint=hint) from error


@functools.cache
def _silence_opencv() -> None:
    """Stop OpenCV's own lines on stderr about broken pictures: the `DataError` says it, once and with the name."""
    with contextlib.suppress(AttributeError):  # builds of OpenCV without the logging module print on
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _decode(content: bytes, header: PictureHeader) -> npt.NDArray[np.generic]:
    """Decode to whatever depth and channels the file has: gray, BGR or BGRA.

    OpenCV applies EXIF orientation only when it drops alpha, and keeps alpha only when it ignores orientation. So
    formats that can have alpha are decoded as they are, and once more, upright, if there is no alpha but EXIF data.
    A picture with both stays as it was stored.
    """
    buffer = np.frombuffer(content, np.uint8)
    upright = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    try:
        pixels = cv2.imdecode(buffer, upright if header.format == "jpeg" else cv2.IMREAD_UNCHANGED)
        has_alpha = pixels is not None and pixels.ndim == 3 and pixels.shape[2] == 4
        if header.format != "jpeg" and not has_alpha and any(mark in content for mark in _EXIF_MARKS):
            pixels = cv2.imdecode(buffer, upright)
    except cv2.error as error:
        raise DataError(f"OpenCV cannot decode this {header.format.upper()}: {error.err}") from error
    if pixels is None:
        raise DataError(f"OpenCV cannot decode this {header.format.upper()}: damaged, truncated or of an unknown kind")
    return cast("npt.NDArray[np.generic]", pixels)


def _to_uint8(pixels: npt.NDArray[np.generic]) -> Picture:
    if pixels.dtype == np.uint8:
        return cast("Picture", pixels)
    if pixels.dtype == np.uint16:
        return cast("Picture", cv2.convertScaleAbs(cast("npt.NDArray[np.uint16]", pixels), alpha=1 / 257))
    raise DataError(f"samples are {pixels.dtype}, expected 8 or 16 bits")


def _to_rgb_or_gray(pixels: Picture) -> Picture:
    if pixels.ndim == 2:
        return pixels[:, :, np.newaxis]
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3:].astype(np.uint16)
        over_white = (pixels[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255
        pixels = over_white.astype(np.uint8)
    return cast("Picture", cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
