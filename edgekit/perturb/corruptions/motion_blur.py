"""A camera that moves sideways: the picture trails along a line within 45 degrees of the horizontal."""

from __future__ import annotations

import numpy as np

from edgekit.perturb.corruption import Corruption, Floats
from edgekit.perturb.filters import filter_each, motion_kernel


def _change(pictures: Floats, trail: tuple[int, float], rng: np.random.Generator) -> Floats:
    radius, sigma = trail
    angles = rng.uniform(-45, 45, len(pictures))
    return filter_each(pictures, [motion_kernel(radius, sigma, angle) for angle in angles])


# (radius, standard deviation along the line), in pixels
CORRUPTION = Corruption(
    name="motion_blur",
    title="motion blur",
    family="blur",
    small=((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    large=((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    change=_change,
)
