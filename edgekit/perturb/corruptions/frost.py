"""Ice on the lens: bright crystals over the picture.

ImageNet-C lays six photographs of frost over pictures. No photograph is shipped here: the ice is made of plasma
clouds, their folds raised to veins, in pale blue where there are colors. The shares are ours, too: with the published
ones a picture of middle brightness changes less at severity 5 than at 2, as what is taken from it comes back as ice.
"""

from __future__ import annotations

import numpy as np

from edgekit.perturb.corruption import Corruption, Floats
from edgekit.perturb.filters import plasma

_TINT = np.array([0.82, 0.93, 1.0], np.float32)
_VEINS = 6
"""Power that leaves thin bright veins of the folds."""
_FLOOR, _CLOUDS, _CRYSTALS = 0.25, 0.35, 0.55
"""Brightness of the ice: everywhere, of the clouds, and of the veins."""


def make_ice(num: int, size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Layers of ice, float32 [num, height, width] in 0..1."""
    clouds = plasma(num, size, 1.8, rng)
    folds = 1 - np.abs(2 * plasma(num, size, 1.35, rng) - 1)
    return np.clip(_FLOOR + _CLOUDS * clouds + _CRYSTALS * folds**_VEINS, 0, 1).astype(np.float32)


def _change(pictures: Floats, shares: tuple[float, float], rng: np.random.Generator) -> Floats:
    kept, frozen = shares
    ice = make_ice(len(pictures), (pictures.shape[1], pictures.shape[2]), rng)[..., np.newaxis]
    if pictures.shape[3] == 3:
        ice = ice * _TINT
    return np.float32(kept) * pictures + np.float32(frozen) * ice


# (share of the picture, share of the ice)
CORRUPTION = Corruption(
    name="frost",
    title="frost (drawn)",
    family="weather",
    small=((1, 0.2), (1, 0.3), (0.95, 0.42), (0.9, 0.52), (0.85, 0.62)),
    large=((1, 0.4), (0.95, 0.52), (0.9, 0.64), (0.85, 0.76), (0.8, 0.88)),
    change=_change,
)
