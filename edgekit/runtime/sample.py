"""Random input for measurements: time and memory of an inference do not depend on what is in the picture."""

from __future__ import annotations

import numpy as np

from edgekit.runtime.interpreter import RawArray
from edgekit.runtime.tensor import TensorSpec


def random_input(tensor: TensorSpec, *, seed: int) -> RawArray:
    """One input of the right type and shape, batch 1: the whole range of integers, or standard normal floats."""
    generator = np.random.default_rng(seed)
    if tensor.dtype in ("int8", "uint8"):
        limits = np.iinfo(tensor.dtype)
        return generator.integers(limits.min, limits.max, size=tensor.shape, dtype=tensor.dtype, endpoint=True)
    return generator.standard_normal(tensor.shape, dtype=np.float32).astype(tensor.dtype)
