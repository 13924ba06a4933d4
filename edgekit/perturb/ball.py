"""How far a picture may be changed: every value by at most epsilon, and never out of 0..255."""

from __future__ import annotations

import math
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import DataError, UsageError

Pictures: TypeAlias = npt.NDArray[np.uint8]
"""[n, height, width, channels], fitted to the model's input size."""
Labels: TypeAlias = npt.NDArray[np.int64]
"""[n], from 0."""
Logits: TypeAlias = npt.NDArray[np.float32]
"""[n, classes]."""

_ROUNDING = 1e-6
"""Levels by which 255 * epsilon may miss a whole number: 8/255 means 8 levels, whatever the last bit says."""


class Ball(msgspec.Struct, frozen=True, kw_only=True):
    """The pictures within epsilon of given ones in the maximum norm.

    Args:
        radius: Whole levels (of 255) by which a value may change.
        lowest: uint8 [n, h, w, c], the least that each value may be.
        highest: uint8 [n, h, w, c], the most.
    """

    radius: int
    lowest: Pictures
    highest: Pictures

    def project(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The nearest values in the ball; float32 [n, h, w, c]."""
        return np.clip(values, self.lowest, self.highest, dtype=np.float32)

    def round(self, values: npt.NDArray[np.float32]) -> Pictures:
        """The nearest pictures in the ball. Its bounds are whole numbers, so rounding never leaves it."""
        return np.rint(self.project(values)).astype(np.uint8)


def ball_around(pictures: Pictures, epsilon: float) -> Ball:
    """The ball of radius epsilon around each picture.

    Args:
        pictures: uint8 [n, h, w, c].
        epsilon: As `count_levels` takes it.

    Raises:
        UsageError: Epsilon outside 0..1.
        DataError: No uint8 pictures of that rank.
    """
    radius = count_levels(epsilon)
    if pictures.dtype != np.uint8 or pictures.ndim != 4:
        raise DataError(
            f"pictures are {pictures.dtype} {list(pictures.shape)}, expected uint8 [n, height, width, channels]"
        )
    return Ball(
        radius=radius,
        lowest=np.where(pictures > radius, pictures - np.uint8(radius), np.uint8(0)),
        highest=np.where(pictures < 255 - radius, pictures + np.uint8(radius), np.uint8(255)),
    )


def count_levels(epsilon: float) -> int:
    """Whole levels of 255 within epsilon: what a picture of bytes can make of it.

    Args:
        epsilon: Largest change of a value as a share of the range 0..255. Below 1/255 nothing can change.

    Raises:
        UsageError: Not a number from 0 to 1.

    >>> count_levels(8 / 255), count_levels(0.031), count_levels(0), count_levels(1)
    (8, 7, 0, 255)
    """
    if not (math.isfinite(epsilon) and 0 <= epsilon <= 1):
        raise UsageError(
            f"epsilon is {epsilon}, expected 0 to 1: a share of the range 0..255", hint="8 levels of 255 are 8/255"
        )
    return math.floor(255 * epsilon + _ROUNDING)


def check_labels(pictures: Pictures, labels: Labels, num_classes: int | None = None) -> None:
    """Refuse labels that do not belong to the pictures.

    Args:
        pictures: [n, ...].
        labels: Integers [n].
        num_classes: Outputs of the model; None when it has not answered yet.

    Raises:
        DataError: Another number of labels, no integers, negative ones, or a class that the model does not have.
    """
    if labels.shape != pictures.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"labels are {labels.dtype} {list(labels.shape)}, expected integers [{pictures.shape[0]}], one a picture"
        )
    if not labels.size:
        return
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0:
        raise DataError(f"labels go down to {lowest}, expected 0 or more", hint="attacks need labelled pictures")
    if num_classes is not None and highest >= num_classes:
        raise DataError(f"labels go up to {highest}, the model has {num_classes} classes (0 to {num_classes - 1})")
