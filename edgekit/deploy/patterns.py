"""Pictures out of nothing, for models whose own pictures are not at hand: smooth fields of colour.

Integers throughout: the same seed makes the same pixels on every machine.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.data.drawing import draw_order

_CELLS = 3


def draw_pattern(size: tuple[int, int], num_channels: int, *, seed: int) -> npt.NDArray[np.uint8]:
    """One picture: random colours on a lattice of 4 x 4 points, blended linearly in between.

    Args:
        size: (height, width) in pixels.
        num_channels: 3 or 1.
        seed: Another one, another picture.

    Returns:
        uint8 [height, width, num_channels].
    """
    points = _CELLS + 1
    lattice = np.mod(draw_order(points * points * num_channels * 8, seed=seed), 256)
    corners = np.reshape(lattice[: points * points * num_channels], (points, points, num_channels))
    rows, columns = (_positions(length) for length in size)
    down, across = rows[1][:, None, None], columns[1][None, :, None]
    top, left = rows[0], columns[0]
    upper = _blend(corners[top][:, left], corners[top][:, left + 1], across)
    lower = _blend(corners[top + 1][:, left], corners[top + 1][:, left + 1], across)
    blended = (upper * (_UNIT - down) + lower * down) // (_UNIT * _UNIT)
    return np.clip(blended, 0, 255).astype(np.uint8)


_UNIT = 1024


def _positions(length: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For every pixel of a side: the lattice point before it, and how far behind that it lies, in 1/1024 cells."""
    place = np.arange(length, dtype=np.int64) * (_CELLS * _UNIT - 1) // max(1, length - 1)
    return place // _UNIT, place % _UNIT


def _blend(
    left: npt.NDArray[np.int64], right: npt.NDArray[np.int64], share: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    return left * (_UNIT - share) + right * share
