"""Less contrast: every value moves towards its channel's mean."""

from __future__ import annotations

import numpy as np

from edgekit.perturb.corruption import Corruption, Floats


def _change(pictures: Floats, kept: float, rng: np.random.Generator) -> Floats:
    del rng
    means = pictures.mean(axis=(1, 2), keepdims=True)
    return (pictures - means) * np.float32(kept) + means


CORRUPTION = Corruption(
    name="contrast",
    title="contrast",
    family="digital",
    small=(0.75, 0.5, 0.4, 0.3, 0.15),
    large=(0.4, 0.3, 0.2, 0.1, 0.05),
    change=_change,
)
