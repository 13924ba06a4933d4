"""A temperature that makes confidence honest, and a threshold below which an answer is better not given."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from edgekit.core.errors import DataError
from edgekit.evaluate.calibration import NUM_BINS
from edgekit.evaluate.metrics import Labels, Logits, check_labels, check_logits

Numbers = npt.NDArray[np.float64]

COOLEST, HOTTEST = 0.05, 20.0
"""Bounds of the temperature."""
LEAST_ACCEPTED = 0.05
"""Share of the weight that a threshold must leave: above that, a few lucky answers would decide."""


def fit_temperature(logits: Logits, labels: Labels, weights: Numbers) -> float:
    """The temperature with the least log loss of softmax(logits / temperature) (Guo et al. 2017, section 4.2).

    Args:
        logits: [n, classes], n at least 1.
        labels: [n], 0 to classes - 1.
        weights: How much each picture counts, float64 [n], not negative.

    Returns:
        0.05 to 20; a bound where all answers are right or none says anything.

    Raises:
        DataError: Logits that are not finite, labels out of range, or no weight at all.
    """
    check_logits(logits)
    check_labels(labels, *logits.shape)
    if weights.shape != labels.shape or not weights.sum() > 0:
        raise DataError(f"weights have shape {list(weights.shape)}, expected [{len(labels)}], not all 0")
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    right = exact[np.arange(len(labels)), labels]

    def loss(logarithm: float) -> float:
        scale = np.exp(-logarithm)
        each = np.log(np.exp(exact * scale).sum(axis=1)) - right * scale
        return float(weights @ each)

    found = minimize_scalar(loss, bounds=(np.log(COOLEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))  # pyright: ignore[reportAttributeAccessIssue] - the stubs know no OptimizeResult


def expected_error(confidence: Numbers, credit: Numbers, weights: Numbers) -> float:
    """Expected calibration error of weighted answers, over 15 bins as `measure_calibration` has them.

    Args:
        confidence: Probability of each answer, float64 [n].
        credit: Whether it is right, 0..1.
        weights: How much it counts.
    """
    edges = np.linspace(0.0, 1.0, NUM_BINS + 1)
    bins = np.searchsorted(edges[1:-1], confidence)
    gaps = np.bincount(bins, weights=weights * (credit - confidence), minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def choose_threshold(confidence: Numbers, credit: Numbers, weights: Numbers, target: float) -> float | None:
    """The lowest threshold above which at least `target` of the accepted answers are right (Geifman and El-Yaniv 2017).

    Args:
        confidence: Probability of each answer, float64 [n].
        credit: Whether it is right, 0..1.
        weights: How much it counts.
        target: 0..1.

    Returns:
        A confidence that some picture has (it is accepted); 0 where nothing need be refused; None where no threshold
        that leaves at least a twentieth of the weight reaches the target.

    >>> ones = np.ones(4)
    >>> choose_threshold(np.array([0.9, 0.8, 0.6, 0.5]), np.array([1.0, 1.0, 1.0, 0.0]), ones, 0.9)
    0.6
    """
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    accepted = np.cumsum(weights[order])
    right = np.cumsum(weights[order] * credit[order])
    is_last = np.append(sure[1:] < sure[:-1], True)  # pictures of one confidence are accepted together
    good = is_last & (right >= target * accepted - 1e-12) & (accepted >= LEAST_ACCEPTED * accepted[-1])
    if not good.any():
        return None
    last = int(np.flatnonzero(good)[-1])
    return 0.0 if last == len(sure) - 1 else float(sure[last])
