"""Logits to probabilities, and no probabilities where there are logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from edgekit.core.errors import DataError
from edgekit.evaluate.metrics import Logits, check_logits

_TOLERANCE = 0.02
"""How far from 1 the probabilities of one picture may add up to: a quantized softmax is no closer."""


def to_probabilities(logits: Logits) -> npt.NDArray[np.float64]:
    """Softmax of logits [n, classes], float64.

    Raises:
        DataError: Logits that are not finite or not [n, classes].
    """
    check_logits(logits)
    return np.asarray(softmax(logits.astype(np.float64), axis=1), np.float64)


def check_probabilities(values: Logits) -> npt.NDArray[np.float64]:
    """Probabilities [n, classes] that a model says it answered with, made to add up to 1, float64.

    Raises:
        DataError: Some are negative or do not add up to 1: they are logits, or no probabilities of one answer each.
    """
    check_logits(values)
    sums = values.astype(np.float64).sum(axis=1)
    broken = np.flatnonzero((values < 0).any(axis=1) | (np.abs(sums - 1) > _TOLERANCE))
    if broken.size:
        first = broken[0]
        raise DataError(
            f"expected probabilities, but {broken.size} pictures have other values, the first at index {first}: "
            f"from {values[first].min():.4g} to {values[first].max():.4g}, together {sums[first]:.4g}",
            hint="these look like logits: pass them as such",
        )
    return values.astype(np.float64) / sums[:, np.newaxis]
