"""Maps over pictures, as PNG: heat where a class's probability hangs on the picture, gradients around gray."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float64]

SMALLEST_SIDE = 224
"""Smaller pictures are drawn enlarged, pixel by pixel, so that a smooth map fits over them."""
PATCH_SIDE = 112
_OPAQUE = 0.85
"""Opacity of the strongest heat."""
FAINT_GAMMA = 0.7
"""Below 1: faint heat is drawn a little stronger, or the picture would show the one strongest spot only."""
_PALE = 0.55
"""Contrast of the picture under a map."""
WARM, COOL = (232, 75, 20), (30, 110, 220)
"""RGB of what speaks for a class, and of what speaks against it. (Told apart with every kind of color vision.)"""
_STRONGEST = 99.5
"""Percentile of a gradient that is drawn at full contrast: a few extreme pixels would leave the rest gray."""


def picture_png(picture: Pixels) -> str:
    """A picture [h, w, 3 or 1] as base64 PNG."""
    return _encode(_enlarge(_to_rgb(picture), SMALLEST_SIDE))


def patch_png(picture: Pixels, box: tuple[int, int, int, int]) -> str:
    """The part of a picture in a box (top, left, bottom, right)."""
    return _encode(_to_patch(_to_rgb(picture[box[0] : box[2], box[1] : box[3]])))


def heat_png(picture: Pixels, values: Map, largest: float, *, gamma: float = FAINT_GAMMA) -> str:
    """A picture under a map: warm where the map is positive, cool where it is negative.

    Args:
        picture: uint8 [h, w, 3 or 1].
        values: The map, coarse; its cells are spread evenly over the picture.
        largest: What is drawn strongest; 0 or less for no heat at all.
        gamma: Exponent from heat to opacity: 1 where most of a map is warm.
    """
    base = _enlarge(_to_rgb(picture), SMALLEST_SIDE).astype(np.float64)
    gray = base.mean(axis=2, keepdims=True)
    pale = 255 - _PALE * (255 - gray)
    height, width = base.shape[:2]
    fine = cv2.resize(np.ascontiguousarray(values, np.float64), (width, height), interpolation=cv2.INTER_LINEAR)
    share = np.clip(fine / largest, -1, 1) if largest > 0 else np.zeros_like(fine)
    opacity = _OPAQUE * (np.abs(share) ** gamma)[:, :, np.newaxis]
    colour = np.where(share[:, :, np.newaxis] >= 0, np.array(WARM, np.float64), np.array(COOL, np.float64))
    return _encode(np.rint((1 - opacity) * pale + opacity * colour).astype(np.uint8))


def gradient_png(gradient: npt.NDArray[np.float32], box: tuple[int, int, int, int] | None = None) -> str:
    """A gradient [h, w, 3 or 1] around middle gray, or the part of it in a box (top, left, bottom, right)."""
    part = gradient if box is None else gradient[box[0] : box[2], box[1] : box[3]]
    strength = float(np.percentile(np.abs(part), _STRONGEST)) or float(np.abs(part).max())
    share = np.clip(part / strength, -1, 1) if strength > 0 else np.zeros_like(part)
    pixels = _to_rgb(np.rint(127.5 + 127.5 * share.astype(np.float64)).astype(np.uint8))
    return _encode(_enlarge(pixels, SMALLEST_SIDE) if box is None else _to_patch(pixels))


def _to_rgb(pixels: Pixels) -> Pixels:
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def _enlarge(pixels: Pixels, smallest_side: int) -> Pixels:
    factor = -(-smallest_side // min(pixels.shape[:2]))
    return np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1) if factor > 1 else pixels


def _to_patch(pixels: Pixels) -> Pixels:
    """A part of a picture in a size for many on a page."""
    enlarged = _enlarge(pixels, PATCH_SIDE)
    height, width = enlarged.shape[:2]
    if min(height, width) < 2 * PATCH_SIDE:
        return enlarged
    factor = PATCH_SIDE / min(height, width)
    shrunk = cv2.resize(enlarged, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.uint8)


def _encode(pixels: Pixels) -> str:
    is_written, content = cv2.imencode(".png", pixels[:, :, ::-1])
    if not is_written:
        raise TypeError(f"OpenCV cannot write a picture of {list(pixels.shape)} as PNG")
    return base64.b64encode(content.tobytes()).decode()
