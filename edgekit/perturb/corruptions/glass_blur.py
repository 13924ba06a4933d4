"""Frosted glass: blurred, pixels swapped with near ones, and blurred again.

The published program means to swap, but copies one way (both sides of its assignment are the same memory); here pixels
are swapped. Its parameters for small pictures distort less at severity 3 than at 1, as blur hides what is swapped: ours
have the same blurs, fewer of them, and more rounds.
"""

from __future__ import annotations

import numpy as np

from edgekit.perturb.corruption import Corruption, Floats
from edgekit.perturb.filters import blur


def _change(pictures: Floats, glass: tuple[float, int, int], rng: np.random.Generator) -> Floats:
    sigma, reach, num_rounds = glass
    shuffled = blur(pictures, sigma).copy()
    num, height, width, _ = shuffled.shape
    every = np.arange(num)
    for _ in range(num_rounds):
        for row in range(height - reach, reach, -1):
            steps = rng.integers(-reach, reach, size=(width, 2, num))
            for column in range(width - reach, reach, -1):
                rows, columns = row + steps[column - 1, 0], column + steps[column - 1, 1]
                near = shuffled[every, rows, columns]
                shuffled[every, rows, columns] = shuffled[:, row, column]
                shuffled[:, row, column] = near
    return blur(shuffled, sigma)


# (standard deviation of the blur in pixels, how far pixels move, rounds)
CORRUPTION = Corruption(
    name="glass_blur",
    title="frosted glass",
    family="blur",
    small=((0.4, 1, 1), (0.3, 1, 1), (0.4, 1, 2), (0.3, 1, 2), (0.3, 1, 3)),
    large=((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    change=_change,
)
