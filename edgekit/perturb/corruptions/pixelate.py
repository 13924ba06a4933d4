"""Too few pixels: shrunk by areas, and enlarged again as squares."""

from __future__ import annotations

import cv2
import numpy as np

from edgekit.perturb.corruption import Corruption, Floats
from edgekit.perturb.filters import Drawn, map_pictures


def _change(pictures: Floats, share: float, rng: np.random.Generator) -> Floats:
    del rng
    height, width = pictures.shape[1:3]
    fewer = (max(1, round(width * share)), max(1, round(height * share)))

    def squares(picture: Floats) -> Drawn:
        shrunk = cv2.resize(picture, fewer, interpolation=cv2.INTER_AREA)
        return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)

    return map_pictures(pictures, squares)


CORRUPTION = Corruption(
    name="pixelate",
    title="pixelate",
    family="digital",
    small=(0.95, 0.9, 0.85, 0.75, 0.65),
    large=(0.6, 0.5, 0.4, 0.3, 0.25),
    change=_change,
)
