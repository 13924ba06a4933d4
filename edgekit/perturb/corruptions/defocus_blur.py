"""A lens out of focus: every point becomes a disk."""

from __future__ import annotations

import numpy as np

from edgekit.perturb.corruption import Corruption, Floats
from edgekit.perturb.filters import disk_kernel, filter_each


def _change(pictures: Floats, disk: tuple[float, float], rng: np.random.Generator) -> Floats:
    del rng
    return filter_each(pictures, [disk_kernel(*disk)])


# (radius of the disk, softness of its rim), in pixels
CORRUPTION = Corruption(
    name="defocus_blur",
    title="defocus blur",
    family="blur",
    small=((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    large=((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    change=_change,
)
