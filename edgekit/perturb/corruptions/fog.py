"""Fog: plasma clouds are added, and the sum is scaled back to the picture's brightest value."""

from __future__ import annotations

import numpy as np

from edgekit.perturb.corruption import Corruption, Floats
from edgekit.perturb.filters import plasma


def _change(pictures: Floats, fog: tuple[float, float], rng: np.random.Generator) -> Floats:
    thickness, decay = np.float32(fog[0]), fog[1]
    clouds = plasma(len(pictures), (pictures.shape[1], pictures.shape[2]), decay, rng)[..., np.newaxis]
    brightest = pictures.max(axis=(1, 2, 3), keepdims=True)
    return (pictures + thickness * clouds) * brightest / (brightest + thickness)


# (thickness, decay of the clouds' detail)
CORRUPTION = Corruption(
    name="fog",
    title="fog",
    family="weather",
    small=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    large=((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    change=_change,
)
