"""Translation, rotation and scale in measured amounts, to see how far an answer holds (Engstrom et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import msgspec
import numpy as np

from edgekit.core.errors import UsageError
from edgekit.perturb.corruption import Pictures, check_pictures

_COMPASS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""Directions (down, right) that a translation takes, one drawn for each picture."""


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """One way of moving a picture.

    Args:
        name: Id.
        title: In words, with its unit.
        amounts: What a sweep takes, rising; the one that changes nothing is among them.
        move: (pictures, amount, randomness) -> pictures in the same shape.
    """

    name: str
    title: str
    amounts: tuple[float, ...]
    move: Callable[[Pictures, float, np.random.Generator], Pictures]


def translate(pictures: Pictures, share: float, rng: np.random.Generator) -> Pictures:
    """Shift by a share of the height and of the width, each picture in one of eight directions; edges are repeated.

    Whole pixels, so that nothing is blurred.

    Args:
        pictures: uint8 [n, height, width, 1 or 3].
        share: 0 to 1.
        rng: Draws the directions.

    Raises:
        UsageError: Another share.
        DataError: No such pictures.
    """
    check_pictures(pictures)
    if not 0 <= share <= 1:
        raise UsageError(f"translation by {share:g} of the side, expected 0 to 1")
    height, width = pictures.shape[1:3]
    down, right = round(share * height), round(share * width)
    directions = rng.integers(len(_COMPASS), size=len(pictures))
    moved = np.empty_like(pictures)
    for index, direction in enumerate(directions.tolist()):
        vertical, horizontal = _COMPASS[direction]
        rows = np.clip(np.arange(height) - vertical * down, 0, height - 1)
        columns = np.clip(np.arange(width) - horizontal * right, 0, width - 1)
        moved[index] = pictures[index][rows[:, np.newaxis], columns]
    return moved


def rotate(pictures: Pictures, degrees: float, rng: np.random.Generator) -> Pictures:
    """Turn about the centre, counter-clockwise; bilinear, edges are repeated. Draws nothing.

    Raises:
        UsageError: Degrees that are not finite.
        DataError: No such pictures.
    """
    del rng
    if not math.isfinite(degrees):
        raise UsageError(f"rotation by {degrees} degrees")
    return _warp(pictures, 1.0, degrees)


def rescale(pictures: Pictures, factor: float, rng: np.random.Generator) -> Pictures:
    """Enlarge (above 1) or shrink (below 1) about the centre; bilinear, edges are repeated. Draws nothing.

    Raises:
        UsageError: A factor that is not positive and finite.
        DataError: No such pictures.
    """
    del rng
    if not (math.isfinite(factor) and factor > 0):
        raise UsageError(f"scale {factor}, expected a positive factor")
    return _warp(pictures, factor, 0.0)


def _warp(pictures: Pictures, factor: float, degrees: float) -> Pictures:
    check_pictures(pictures)
    height, width = pictures.shape[1:3]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, factor)
    moved = np.empty_like(pictures)
    for index, picture in enumerate(pictures):
        warped = cv2.warpAffine(
            picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        moved[index] = np.reshape(warped, picture.shape)
    return moved


MOVEMENTS = (
    Movement(
        name="translation",
        title="translation, share of the side",
        amounts=(0.0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3),
        move=translate,
    ),
    Movement(
        name="rotation",
        title="rotation, degrees",
        amounts=(-60.0, -45.0, -30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0, 45.0, 60.0),
        move=rotate,
    ),
    Movement(
        name="scale",
        title="scale, factor",
        amounts=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0),
        move=rescale,
    ),
)
