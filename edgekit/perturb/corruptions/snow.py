"""Falling snow: bright flakes, enlarged and trailing downwards, twice, before a paler picture."""

from __future__ import annotations

import numpy as np

from edgekit.perturb.corruption import Corruption, Floats
from edgekit.perturb.filters import filter_each, map_pictures, motion_kernel, zoom

_GRAY = np.array([0.299, 0.587, 0.114], np.float32)


def _change(
    pictures: Floats, snow: tuple[float, float, float, float, int, float, float], rng: np.random.Generator
) -> Floats:
    mean, deviation, size, threshold, radius, sigma, kept = snow
    flakes = rng.normal(mean, deviation, pictures.shape[:3]).astype(np.float32)
    flakes = map_pictures(flakes, lambda layer: zoom(layer, size))
    flakes = np.clip(np.where(flakes < threshold, np.float32(0), flakes), 0, 1)
    angles = rng.uniform(-135, -45, len(pictures))
    flakes = filter_each(flakes, [motion_kernel(radius, sigma, angle) for angle in angles])[..., np.newaxis]
    gray = pictures @ _GRAY[:, np.newaxis] if pictures.shape[3] == 3 else pictures
    pale = np.float32(kept) * pictures + np.float32(1 - kept) * np.maximum(pictures, gray * 1.5 + 0.5)
    return pale + flakes + flakes[:, ::-1, ::-1]


# (mean, standard deviation, enlargement, threshold, radius of the trail, its standard deviation, share of the picture)
CORRUPTION = Corruption(
    name="snow",
    title="snow",
    family="weather",
    small=(
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    large=(
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    change=_change,
)
