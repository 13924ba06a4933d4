"""Accuracy and agreement, fair to ties.

Logits of an int8 file have at most 256 values, so the best two tie often (in half of the pictures for some models).
Counting the lowest index as the answer favours the first classes, and counting any tie as right favours coarse grids.
Here a tie is worth what breaking it at random is worth on average: the right answer among k tied for the top counts
1/k. No random number is drawn, so the result is exact and repeatable.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix

from edgekit.core.errors import DataError
from edgekit.core.measurement import Accuracy, Agreement, wilson_interval

Logits: TypeAlias = npt.NDArray[np.floating[Any]]
Labels: TypeAlias = npt.NDArray[np.integer[Any]]


def accuracy(logits: Logits, labels: Labels) -> Accuracy:
    """Measure top-1 and top-5 accuracy.

    Args:
        logits: [n, classes]; only their order matters, so probabilities serve as well.
        labels: [n], 0 to classes - 1.

    Returns:
        Accuracy; top5 is None with fewer than 6 classes, where it would say nothing. For n = 0 top1 is 0 and the
        interval is (0, 1).

    Raises:
        DataError: Shapes that do not fit, a label out of range, or logits that are not finite.
    """
    check_logits(logits)
    num, num_classes = logits.shape
    check_labels(labels, num, num_classes)
    credit = float(top_k_credit(logits, labels, 1).sum())
    top5 = float(top_k_credit(logits, labels, 5).sum()) / num if num and num_classes > 5 else None
    return Accuracy(top1=credit / num if num else 0.0, top5=top5, n=num, ci95=wilson_interval(credit, num))


def top_k_credit(logits: Logits, labels: Labels, k: int) -> npt.NDArray[np.float64]:
    """Chance that the right class is among the best k when ties are broken at random, float64 [n].

    With `above` classes better than the right one and `tied` equal to it (itself included), it takes one of `tied`
    places of which `k - above` are good.

    >>> top_k_credit(np.array([[3.0, 3.0, 1.0], [0.0, 2.0, 1.0]]), np.array([1, 2]), 1).tolist()
    [0.5, 0.0]
    """
    right = np.take_along_axis(logits, labels[:, np.newaxis].astype(np.int64), axis=1)
    above = (logits > right).sum(axis=1)
    tied = (logits == right).sum(axis=1)
    return np.clip((k - above) / tied, 0.0, 1.0)


def agreement(logits: Logits, reference: Logits) -> Agreement:
    """Compare a file's answers with the float model's on the same pictures.

    Where both have one best class, they agree or not. Where classes tie for the best, the picture counts the shared
    ones over all that are best in either: 1/k when one answer is among k tied in the other, and 1 when both tie
    between the same classes, so that every file agrees with itself.

    Args:
        logits: [n, classes].
        reference: [n, classes], the float model's.

    Raises:
        DataError: Shapes that differ, or logits that are not finite.
    """
    check_logits(logits)
    check_logits(reference)
    if logits.shape != reference.shape:
        raise DataError(f"logits of shapes {list(logits.shape)} and {list(reference.shape)} cannot be compared")
    num = logits.shape[0]
    if num == 0:
        return Agreement(top1=0.0, max_abs_error=0.0, n=0)
    best = logits == logits.max(axis=1, keepdims=True)
    best_reference = reference == reference.max(axis=1, keepdims=True)
    shared = (best & best_reference).sum(axis=1)
    either = (best | best_reference).sum(axis=1)
    difference = np.abs(logits.astype(np.float64) - reference.astype(np.float64))
    return Agreement(top1=float((shared / either).mean()), max_abs_error=float(difference.max()), n=num)


def answers(logits: Logits, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """One class per picture, int64 [n]: the best, ties broken by a seeded draw (the same in every run).

    For whatever needs a whole answer (confusion matrix, lists of disagreements); shares are better taken from
    `accuracy` and `agreement`, which need no draw.

    Raises:
        DataError: Logits that are not finite or not [n, classes].
    """
    check_logits(logits)
    if logits.shape[0] == 0:
        return np.empty(0, np.int64)
    best = logits == logits.max(axis=1, keepdims=True)
    draw = np.random.default_rng(seed).random(logits.shape)
    return np.where(best, draw, -1.0).argmax(axis=1)


def confusion(logits: Logits, labels: Labels, num_classes: int) -> npt.NDArray[np.int64]:
    """Count answers by right class (row) and answer (column): int64 [num_classes, num_classes].

    Raises:
        DataError: Shapes that do not fit, a label out of range, or logits that are not finite.
    """
    given = answers(logits)
    check_labels(labels, logits.shape[0], num_classes)
    if logits.shape[1] != num_classes:
        raise DataError(f"logits have {logits.shape[1]} classes, expected {num_classes}")
    if labels.size == 0 or num_classes == 1:  # scikit-learn asks for a picture, and warns of one class
        return np.full((num_classes, num_classes), labels.size, np.int64)
    counts = confusion_matrix(labels, given, labels=np.arange(num_classes))
    return np.asarray(counts, np.int64)


def check_logits(logits: Logits) -> None:
    """Refuse answers that nothing can be measured on.

    Raises:
        DataError: Not [n, classes], or NaN or infinite.
    """
    if logits.ndim != 2 or logits.shape[1] < 1:
        raise DataError(f"logits have shape {list(logits.shape)}, expected [n, classes]")
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if broken.size:
        raise DataError(f"logits of {broken.size} pictures are NaN or infinite, the first at index {broken[0]}")


def check_labels(labels: Labels, num: int, num_classes: int) -> None:
    """Refuse labels that are not [num] whole numbers from 0 to num_classes - 1.

    Raises:
        DataError: They are not.
    """
    if labels.shape != (num,):
        raise DataError(f"labels have shape {list(labels.shape)}, expected [{num}] as many as logits")
    if num and (labels.min() < 0 or labels.max() >= num_classes):
        raise DataError(f"labels run from {labels.min()} to {labels.max()}, expected 0 to {num_classes - 1}")
