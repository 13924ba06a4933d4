"""A camera that moves towards the scene: the mean of the picture and of enlarged ones."""

from __future__ import annotations

import numpy as np

from edgekit.perturb.corruption import Corruption, Floats
from edgekit.perturb.filters import map_pictures, zoom


def _change(pictures: Floats, zooms: tuple[float, float], rng: np.random.Generator) -> Floats:
    del rng
    largest, step = zooms
    factors = np.arange(1, largest, step)
    total = pictures.copy()
    for factor in factors:
        total += map_pictures(pictures, lambda one, by=float(factor): zoom(one, by))
    return total / np.float32(len(factors) + 1)


# (bound of the largest factor, step between factors)
CORRUPTION = Corruption(
    name="zoom_blur",
    title="zoom blur",
    family="blur",
    small=((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    large=((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    change=_change,
)
