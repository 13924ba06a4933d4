"""More light: the value of hue, saturation and value is raised (in gray pictures, the gray)."""

from __future__ import annotations

import numpy as np

from edgekit.perturb.corruption import Corruption, Floats


def _change(pictures: Floats, more: float, rng: np.random.Generator) -> Floats:
    del rng
    value = pictures.max(axis=3, keepdims=True)
    raised = np.minimum(value + np.float32(more), 1)
    # With hue and saturation kept, red, green and blue grow in proportion; black, which has none, turns gray.
    return np.where(value > 0, pictures * (raised / np.maximum(value, np.float32(1e-6))), raised)


CORRUPTION = Corruption(
    name="brightness",
    title="brightness",
    family="weather",
    small=(0.05, 0.1, 0.15, 0.2, 0.3),
    large=(0.1, 0.2, 0.3, 0.4, 0.5),
    change=_change,
)
