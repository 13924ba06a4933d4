"""How evenly pictures are spread over classes, and when that calls for balanced accuracy."""

from __future__ import annotations

import numpy as np
from scipy.stats import chisquare

from edgekit.core.errors import DataError
from edgekit.core.evaluation import ClassBalance
from edgekit.evaluate.metrics import Labels, check_labels

NOTICED_RATIO = 1.5
"""Largest by smallest class above which a dataset counts as imbalanced (the bound of the KEEL collection)."""
NOTICED_P_VALUE = 0.01


def measure_balance(labels: Labels, class_names: tuple[str, ...]) -> ClassBalance:
    """Count the classes, and say whether they are imbalanced.

    Both conditions must hold, for each alone misleads: ten pictures a class, drawn at random, often differ by half as
    much again, and in a million pictures chance does not explain a difference that nobody minds.

    Args:
        labels: [n], 0 to classes - 1.
        class_names: In label order.

    Raises:
        DataError: No picture, or a label out of range.
    """
    check_labels(labels, labels.shape[0], len(class_names))
    if labels.size == 0:
        raise DataError("no picture to evaluate on", hint="give a dataset with test pictures by --data")
    counts = np.bincount(labels, minlength=len(class_names))
    present = np.flatnonzero(counts)
    largest, smallest = int(counts.argmax()), int(present[counts[present].argmin()])
    ratio = float(counts[largest] / counts[smallest])
    p_value = float(chisquare(counts[present]).pvalue) if len(present) > 1 else 1.0
    return ClassBalance(
        is_imbalanced=ratio > NOTICED_RATIO and p_value < NOTICED_P_VALUE,
        ratio=ratio,
        p_value=p_value,
        largest=class_names[largest],
        smallest=class_names[smallest],
        majority_share=float(counts[largest] / labels.size),
        missing=tuple(class_names[index] for index in np.flatnonzero(counts == 0).tolist()),
    )
