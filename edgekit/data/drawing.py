"""Deterministic draws that depend on nothing but their arguments: no library's random stream, no machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def draw_order(count: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Return a shuffled `arange(count)`, int64 [count], the same on every machine and with every numpy.

    Indices are sorted by the SplitMix64 hash of (seed, index) (Steele et al. 2014, "Fast Splittable Pseudorandom
    Number Generators"), because numpy does not promise that `Generator` streams stay the same between versions.

    >>> draw_order(6, seed=0).tolist()
    [2, 4, 5, 1, 0, 3]
    """
    with np.errstate(over="ignore"):
        state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state += np.uint64(seed) * np.uint64(0xD1342543DE82EF95)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return np.argsort(state, kind="stable").astype(np.int64)
