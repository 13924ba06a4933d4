"""Kernels and layers that several corruptions are made of. Pictures are float32 [n, h, w, c] or layers [n, h, w]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from edgekit.perturb.corruption import Floats

Drawn: TypeAlias = npt.NDArray[Any]
"""What OpenCV gives back: its stubs do not say of which type."""

_TRUNCATE = 4.0
"""Standard deviations at which a Gaussian ends."""
_ROUGHNESS = 100.0
"""Height of the first step of a plasma; the result is scaled to 0..1, so that only its decay matters."""


def blur(pictures: Floats, sigma: float) -> Floats:
    """Gaussian blur with repeated edges; unchanged where the kernel has one pixel."""
    size = 2 * int(_TRUNCATE * sigma + 0.5) + 1
    if size == 1:
        return pictures
    return map_pictures(
        pictures, lambda one: cv2.GaussianBlur(one, (size, size), sigma, None, sigma, cv2.BORDER_REPLICATE)
    )


def filter_each(pictures: Floats, kernels: Sequence[npt.NDArray[np.float32]]) -> Floats:
    """Correlate each picture with a kernel of its own, or all with the only one; edges are repeated."""
    several = iter([*kernels] * len(pictures) if len(kernels) == 1 else kernels)
    return map_pictures(pictures, lambda one: cv2.filter2D(one, -1, next(several), borderType=cv2.BORDER_REPLICATE))


def map_pictures(pictures: Floats, change: Callable[[npt.NDArray[np.float32]], Drawn]) -> Floats:
    """Change one picture after the other; OpenCV drops a channel dimension of 1, which is put back."""
    changed = np.empty_like(pictures)
    for index, picture in enumerate(pictures):
        changed[index] = np.reshape(change(picture), picture.shape)
    return changed


def disk_kernel(radius: float, softness: float) -> npt.NDArray[np.float32]:
    """A disk of a radius in pixels, its rim blurred by a Gaussian of `softness` pixels; sums to 1."""
    reach = int(max(np.ceil(radius), 1)) + 2
    offsets = np.arange(-reach, reach + 1)
    inside = (offsets[:, np.newaxis] ** 2 + offsets**2 <= radius**2).astype(np.float32)
    size = 3 if radius <= 8 else 5
    soft = cv2.GaussianBlur(inside / inside.sum(), (size, size), softness)
    return (soft / soft.sum()).astype(np.float32)


def motion_kernel(radius: int, sigma: float, degrees: float) -> npt.NDArray[np.float32]:
    """Half a Gaussian along a line, as ImageMagick's motion blur: the picture trails to one side.

    Args:
        radius: The line has 2 * radius + 1 pixels.
        sigma: Of the Gaussian along it.
        degrees: Direction of the trail.

    Returns:
        float32 [4 * radius + 1, 4 * radius + 1], sums to 1.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    angle = np.deg2rad(degrees)
    kernel = np.zeros((4 * radius + 1, 4 * radius + 1), np.float64)
    rows = 2 * radius + np.ceil(steps * np.sin(angle) - 0.5).astype(int)
    columns = 2 * radius + np.ceil(steps * np.cos(angle) - 0.5).astype(int)
    np.add.at(kernel, (rows, columns), weights / weights.sum())
    return kernel.astype(np.float32)


def zoom(picture: npt.NDArray[np.float32], factor: float) -> npt.NDArray[np.float32]:
    """Enlarge a picture or layer about its centre by a factor of at least 1, bilinearly, cut to its own size."""
    height, width = picture.shape[:2]
    matrix = np.array([[factor, 0, (1 - factor) * (width - 1) / 2], [0, factor, (1 - factor) * (height - 1) / 2]])
    zoomed = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.reshape(np.asarray(zoomed, np.float32), picture.shape)


def plasma(num: int, size: tuple[int, int], decay: float, rng: np.random.Generator) -> Floats:
    """Clouds: diamond-square heights (Fournier, Fussell and Carpenter 1982) on a torus, scaled to 0..1.

    Args:
        num: How many.
        size: (height, width).
        decay: How much smaller the disturbance gets with every halving, squared; small is rough.
        rng: Randomness.

    Returns:
        float32 [num, height, width].
    """
    side = 1 << int(max(size) - 1).bit_length()
    heights = np.zeros((num, side, side))
    step, wibble = side, _ROUGHNESS

    def disturbed(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return sums / 4 + wibble * rng.uniform(-wibble, wibble, sums.shape)

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        rows = corners + np.roll(corners, -1, axis=1)
        heights[:, half::step, half::step] = disturbed(rows + np.roll(rows, -1, axis=2))
        centres = heights[:, half::step, half::step]
        beside = corners + np.roll(corners, -1, axis=2) + centres + np.roll(centres, 1, axis=1)
        above = corners + np.roll(corners, -1, axis=1) + centres + np.roll(centres, 1, axis=2)
        heights[:, ::step, half::step] = disturbed(beside)
        heights[:, half::step, ::step] = disturbed(above)
        step, wibble = half, wibble / decay
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= np.maximum(heights.max(axis=(1, 2), keepdims=True), 1e-12)
    return heights[:, : size[0], : size[1]].astype(np.float32)
