"""Precision, recall, F1 and false positive rate class by class, and their means; fair to ties.

A picture on which k classes tie for the best answer counts 1/k for each of them (scikit-learn's `sample_weight`), so
that these shares are the mean over all ways to break ties, as `edgekit.evaluate.metrics.accuracy` is.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.metrics import multilabel_confusion_matrix, precision_recall_fscore_support

from edgekit.core.evaluation import Averages, ClassScores
from edgekit.core.measurement import wilson_interval
from edgekit.evaluate.metrics import Labels, Logits
from edgekit.evaluate.ranking import ClassRanking

Numbers = npt.NDArray[np.float64]


class WeightedAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """Every best answer of every picture.

    Args:
        labels: Right class of each answer's picture, int64 [m], m at least the number of pictures.
        given: The answer, int64 [m].
        weights: 1 / number of best answers of its picture, float64 [m].
        num_tied: Pictures with several.
    """

    labels: npt.NDArray[np.int64]
    given: npt.NDArray[np.int64]
    weights: Numbers
    num_tied: int


def weigh_answers(logits: Logits, labels: Labels) -> WeightedAnswers:
    """List the best answers.

    >>> found = weigh_answers(np.array([[3.0, 3.0], [0.0, 2.0]]), np.array([1, 1]))
    >>> found.given.tolist(), found.weights.tolist(), found.num_tied
    ([0, 1, 1], [0.5, 0.5, 1.0], 1)
    """
    best = logits == logits.max(axis=1, keepdims=True)
    pictures, given = np.nonzero(best)
    num_best = best.sum(axis=1)
    return WeightedAnswers(
        labels=labels[pictures].astype(np.int64),
        given=given.astype(np.int64),
        weights=1.0 / num_best[pictures],
        num_tied=int((num_best > 1).sum()),
    )


def score_classes(
    answers: WeightedAnswers, ranking: Sequence[ClassRanking | None], class_names: Sequence[str]
) -> tuple[ClassScores, ...]:
    """Score every class against the others.

    Args:
        answers: What was answered.
        ranking: Areas of each class; None where there are none.
        class_names: In label order.
    """
    classes = np.arange(len(class_names))
    precision, recall, f_score, _ = _weighted(answers, classes, zero_division=np.nan)
    tables = multilabel_confusion_matrix(
        answers.labels, answers.given, sample_weight=answers.weights, labels=classes
    ).astype(np.float64)
    pictures = tables[:, 1, :].sum(axis=1)
    others = tables[:, 0, :].sum(axis=1)
    specificity = np.divide(tables[:, 0, 0], others, out=np.full(len(classes), np.nan), where=others > 0)
    return tuple(
        ClassScores(
            name=name,
            num_pictures=round(float(pictures[index])),
            recall=_known(recall[index]),
            recall_ci95=_interval(tables[index, 1, 1], pictures[index]),
            precision=_known(precision[index]),
            f_score=_known(f_score[index]),
            specificity=_known(specificity[index]),
            false_positive_rate=_known(1.0 - specificity[index]),
            auc=None if areas is None else areas.auc,
            average_precision=None if areas is None else areas.average_precision,
        )
        for index, (name, areas) in enumerate(zip(class_names, ranking, strict=True))
    )


def average_classes(answers: WeightedAnswers, classes: Sequence[ClassScores]) -> Averages:
    """Means over the classes that have pictures; `classes` are from `score_classes`, at least one with pictures."""
    present = np.array([index for index, scores in enumerate(classes) if scores.num_pictures])
    precision, recall, f_score, _ = _weighted(answers, present, zero_division=0.0)
    recalls = [(scores.recall, scores.num_pictures) for scores in classes if scores.recall is not None]
    ranked = [scores for scores in classes if scores.auc is not None]
    return Averages(
        balanced_accuracy=float(recall.mean()),
        balanced_ci95=balanced_interval(recalls),
        precision=float(precision.mean()),
        f_score=float(f_score.mean()),
        auc=_mean([scores.auc for scores in ranked if scores.auc is not None]),
        average_precision=_mean([row.average_precision for row in ranked if row.average_precision is not None]),
        num_classes=len(present),
    )


def balanced_interval(recalls: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """95 % interval of the mean recall: Wilson's, for the number of pictures that the classes' sizes are worth.

    That number is the smaller of two: the squared sum of weights over the sum of squared weights (Kish 1965), which is
    the number of pictures when all classes have as many, and the one of the recalls' own variances (Korn and Graubard
    1998), which is smaller when the rare classes are the hard ones.

    Args:
        recalls: Recall and number of pictures (at least 1) of every class that has any.

    >>> [round(bound, 4) for bound in balanced_interval([(0.9, 100), (0.9, 100)])]  # as 180 of 200
    [0.8506, 0.9343]
    >>> [round(bound, 4) for bound in balanced_interval([(1.0, 1000), (0.5, 10)])]
    [0.573, 0.8702]
    """
    shares = np.array([recall for recall, _ in recalls])
    counts = np.array([count for _, count in recalls], np.float64)
    mean = float(shares.mean())
    worth = len(counts) ** 2 / float((1.0 / counts).sum())
    variance = float((shares * (1.0 - shares) / counts).sum()) / len(counts) ** 2
    if variance > 0:
        worth = min(worth, mean * (1.0 - mean) / variance)
    low, high = wilson_interval(mean * worth, worth)
    return (min(low, mean), max(high, mean))  # rounding must not put the mean outside


def _weighted(
    answers: WeightedAnswers, classes: npt.NDArray[np.int64], *, zero_division: float
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    found = precision_recall_fscore_support(
        answers.labels,
        answers.given,
        labels=classes,
        sample_weight=answers.weights,
        average=None,
        zero_division=zero_division,  # pyright: ignore[reportArgumentType] - NaN is allowed, the stubs say str
    )
    precision, recall, f_score, support = (np.asarray(values, np.float64) for values in found)
    return precision, recall, f_score, support


def _interval(num_right: float, num_pictures: float) -> tuple[float, float] | None:
    return wilson_interval(float(num_right), round(float(num_pictures))) if num_pictures > 0 else None


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
