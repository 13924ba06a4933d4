"""Whether confidence can be believed: reliability bins, expected calibration error, log loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import log_loss

from edgekit.core.evaluation import Calibration, ReliabilityBin
from edgekit.core.measurement import wilson_interval
from edgekit.evaluate.metrics import Labels

NUM_BINS = 15
"""As in Guo et al. 2017."""

Numbers = npt.NDArray[np.float64]


def measure_calibration(
    probabilities: Numbers, labels: Labels, credit: Numbers, *, num_bins: int = NUM_BINS
) -> Calibration:
    """Compare confidence, the probability of the best answer, with the share of right answers (Guo et al. 2017).

    Bins are of equal width and closed above, as in the paper and in scikit-learn's `calibration_curve`.

    Args:
        probabilities: float64 [n, classes], n at least 1, each row adding up to 1.
        labels: [n], 0 to classes - 1.
        credit: Whether each answer is right, 0..1 where classes tie, float64 [n].
        num_bins: Bins over 0..1.
    """
    confidence = probabilities.max(axis=1)
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    bins = np.searchsorted(edges[1:-1], confidence)
    counts = np.bincount(bins, minlength=num_bins)
    confidences = np.bincount(bins, weights=confidence, minlength=num_bins)
    rights = np.bincount(bins, weights=credit, minlength=num_bins)
    gaps = np.abs(rights - confidences)  # of sums: the count in the mean cancels against the weight of eq. 3
    used = counts > 0
    rows = tuple(
        ReliabilityBin(
            low=float(edges[index]),
            high=float(edges[index + 1]),
            num_pictures=count,
            confidence=float(confidences[index] / count) if count else None,
            accuracy=float(rights[index] / count) if count else None,
            accuracy_ci95=wilson_interval(float(rights[index]), count) if count else None,
        )
        for index, count in enumerate(counts.tolist())
    )
    return Calibration(
        expected_error=float(gaps.sum() / len(labels)),
        largest_error=float((gaps[used] / counts[used]).max()),
        mean_confidence=float(confidence.mean()),
        log_loss=_log_loss(probabilities, labels),
        bins=rows,
    )


def _log_loss(probabilities: Numbers, labels: Labels) -> float:
    num_classes = probabilities.shape[1]
    if num_classes < 2:
        return 0.0  # the only class has probability 1; scikit-learn asks for two
    return float(log_loss(labels, probabilities, labels=np.arange(num_classes)))
