"""The capture time, painted into the picture as black and white cells, and read back from it.

Two rows of 40 cells along the upper edge: 64 bits of nanoseconds and a checksum of 16 bits, most significant
first. A cell is a 40th of the picture's width, so the time survives scaling and JPEG.
"""

from __future__ import annotations

import binascii
import functools

import numpy as np
import numpy.typing as npt

_ROWS = 2
_COLUMNS = 40

MIN_WIDTH = 2 * _COLUMNS
"""Narrowest picture that can hold a time."""


def paint_time(picture: npt.NDArray[np.uint8], time_ns: int) -> None:
    """Paint a time into a picture in place.

    Args:
        picture: uint8 [height, width, channels], at least `MIN_WIDTH` wide and a thirteenth of its width high.
        time_ns: 0..2**64 - 1.
    """
    down, across = _cell_of_pixel(picture.shape[0], picture.shape[1])
    payload = time_ns.to_bytes(8, "big")
    bits = np.unpackbits(np.frombuffer(payload + binascii.crc_hqx(payload, 0xFFFF).to_bytes(2, "big"), np.uint8))
    levels = np.negative(bits)  # 1 becomes 255
    picture[: len(down)] = levels[down[:, np.newaxis] * _COLUMNS + across][:, :, np.newaxis]


def read_time(picture: npt.NDArray[np.uint8]) -> int | None:
    """Read the time back; None when there is none, or the checksum does not fit.

    Args:
        picture: uint8 [height, width, channels], of any size but with its whole width.

    >>> canvas = np.zeros((48, 160, 3), np.uint8)
    >>> paint_time(canvas, 1_234_567_890_123)
    >>> read_time(canvas), read_time(np.zeros_like(canvas))
    (1234567890123, None)
    """
    cell = picture.shape[1] / _COLUMNS
    rows = ((np.arange(_ROWS) + 0.5) * cell).astype(np.intp)
    columns = ((np.arange(_COLUMNS) + 0.5) * cell).astype(np.intp)
    if rows[-1] >= picture.shape[0]:
        return None
    levels = picture[rows][:, columns].astype(np.uint16).sum(axis=2)
    code = np.packbits((levels > 127 * picture.shape[2]).ravel()).tobytes()
    if int.from_bytes(code[8:], "big") != binascii.crc_hqx(code[:8], 0xFFFF):
        return None
    return int.from_bytes(code[:8], "big")


@functools.lru_cache(maxsize=8)
def _cell_of_pixel(height: int, width: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Row of cells for each row of pixels that they take, and column of cells for each column of pixels."""
    across = np.arange(width) * _COLUMNS // width
    down = np.arange(height) * _COLUMNS // width
    if width < MIN_WIDTH or down[-1] < _ROWS:
        raise ValueError(f"a picture of {width}x{height} has no room for a time")
    return down[down < _ROWS], across
