"""Noise of low light: a normal value is added to every pixel and channel."""

from __future__ import annotations

import numpy as np

from edgekit.perturb.corruption import Corruption, Floats


def _change(pictures: Floats, deviation: float, rng: np.random.Generator) -> Floats:
    return pictures + np.float32(deviation) * rng.standard_normal(pictures.shape, np.float32)


CORRUPTION = Corruption(
    name="gaussian_noise",
    title="Gaussian noise",
    family="noise",
    small=(0.04, 0.06, 0.08, 0.09, 0.10),
    large=(0.08, 0.12, 0.18, 0.26, 0.38),
    change=_change,
)
