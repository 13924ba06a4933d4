"""Noise of few photons: a pixel becomes a Poisson count with its brightness as the mean."""

from __future__ import annotations

import numpy as np

from edgekit.perturb.corruption import Corruption, Floats


def _change(pictures: Floats, photons: float, rng: np.random.Generator) -> Floats:
    return (rng.poisson(pictures * photons) / photons).astype(np.float32)


CORRUPTION = Corruption(
    name="shot_noise",
    title="shot noise",
    family="noise",
    small=(500, 250, 100, 75, 50),
    large=(60, 25, 12, 5, 3),
    change=_change,
)
