"""Each class against all others by its probability: ROC curves, the area under them, average precision.

Ties in probability need no breaking here: scikit-learn moves over all of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn import config_context
from sklearn.metrics import auc, average_precision_score, roc_curve

from edgekit.core.evaluation import RocCurve
from edgekit.evaluate.metrics import Labels

MOST_POINTS = 201
"""Points of a curve that are kept: more than a drawing shows."""
MOST_CURVES = 12
"""Up to so many classes every one keeps its curve."""
WORST_CURVES = 5
"""Curves that are kept of more classes: those with the smallest area."""
_GRID = np.linspace(0.0, 1.0, 1001)

Numbers = npt.NDArray[np.float64]


class ClassRanking(msgspec.Struct, frozen=True, kw_only=True):
    """One class against all others.

    Args:
        auc: Area under the ROC curve.
        average_precision: Sum over thresholds of precision times the step in recall.
        false_positive_rate: float64 [points], rising from 0 to 1.
        true_positive_rate: float64 [points].
    """

    auc: float
    average_precision: float
    false_positive_rate: Numbers
    true_positive_rate: Numbers


def rank_classes(probabilities: Numbers, labels: Labels) -> tuple[ClassRanking | None, ...]:
    """Rank the pictures by each class's probability.

    Args:
        probabilities: float64 [n, classes], finite.
        labels: [n], 0 to classes - 1.

    Returns:
        One per class; None without a picture of it, or without any of another class.
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    with config_context(assume_finite=True):
        return tuple(
            _rank(labels == index, probabilities[:, index]) if 0 < count < len(labels) else None
            for index, count in enumerate(counts.tolist())
        )


def keep_curves(ranking: Sequence[ClassRanking | None], class_names: Sequence[str]) -> tuple[RocCurve, ...]:
    """The mean curve and those of single classes, as points to draw and to store.

    The macro curve is the mean of the true positive rates at equal false positive rates; its area is the mean of the
    areas. Empty when no class has a curve.
    """
    known = [(name, one) for name, one in zip(class_names, ranking, strict=True) if one is not None]
    if not known:
        return ()
    mean = np.mean([np.interp(_GRID, one.false_positive_rate, one.true_positive_rate) for _, one in known], axis=0)
    macro = _thin(np.concatenate([[0.0], _GRID]), np.concatenate([[0.0], mean]))
    if len(known) > MOST_CURVES:
        known = sorted(known, key=lambda item: item[1].auc)[:WORST_CURVES]
    areas = [one.auc for one in ranking if one is not None]
    curves = [RocCurve(name="macro", is_macro=True, auc=float(np.mean(areas)), **_points(*macro))]
    for name, one in known:
        points = _points(*_thin(one.false_positive_rate, one.true_positive_rate))
        curves.append(RocCurve(name=name, is_macro=False, auc=one.auc, **points))
    return tuple(curves)


def _rank(is_class: npt.NDArray[np.bool_], scores: Numbers) -> ClassRanking:
    false_positive_rate, true_positive_rate, _ = roc_curve(is_class, scores)
    return ClassRanking(
        auc=float(auc(false_positive_rate, true_positive_rate)),
        average_precision=float(average_precision_score(is_class, scores)),
        false_positive_rate=false_positive_rate,
        true_positive_rate=true_positive_rate,
    )


def _thin(across: Numbers, up: Numbers) -> tuple[Numbers, Numbers]:
    """At most `MOST_POINTS` points of a rising curve, evenly spaced along it, both ends among them."""
    if len(across) <= MOST_POINTS:
        return across, up
    travelled = across + up
    wanted = np.linspace(travelled[0], travelled[-1], MOST_POINTS)
    kept = np.unique(np.clip(np.searchsorted(travelled, wanted), 0, len(across) - 1))
    kept[0], kept[-1] = 0, len(across) - 1
    return across[kept], up[kept]


def _points(across: Numbers, up: Numbers) -> dict[str, tuple[float, ...]]:
    return {
        "false_positive_rate": tuple(np.round(across, 6).tolist()),
        "true_positive_rate": tuple(np.round(up, 6).tolist()),
    }
