"""Order-0 entropy: what a coder of independent symbols cannot go below."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def order0_bits(values: npt.NDArray[Any]) -> float:
    """Shannon entropy of the values as independent symbols of one distribution, in bits for all of them.

    >>> order0_bits(np.array([0, 0, 1, 1]))
    4.0
    """
    return order0_bits_of_counts(np.unique(values, return_counts=True)[1])


def order0_bits_of_counts(counts: npt.NDArray[np.integer]) -> float:
    """The same from how often each value occurs; 0 where there are none.

    >>> order0_bits_of_counts(np.array([2, 2]))
    4.0
    """
    return float(-(counts * np.log2(counts / max(1, counts.sum()))).sum()) + 0.0
