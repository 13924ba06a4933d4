"""Salt and pepper of bit errors: a share of the values turns black or white, either as often."""

from __future__ import annotations

import numpy as np

from edgekit.perturb.corruption import Corruption, Floats


def _change(pictures: Floats, share: float, rng: np.random.Generator) -> Floats:
    draw = rng.random(pictures.shape, np.float32)
    return np.where(draw < share / 2, np.float32(0), np.where(draw < share, np.float32(1), pictures))


CORRUPTION = Corruption(
    name="impulse_noise",
    title="impulse noise",
    family="noise",
    small=(0.01, 0.02, 0.03, 0.05, 0.07),
    large=(0.03, 0.06, 0.09, 0.17, 0.27),
    change=_change,
)
