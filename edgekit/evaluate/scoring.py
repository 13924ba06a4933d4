"""Every metric of one model from its answers."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.core.errors import DataError, UsageError
from edgekit.core.evaluation import ModelScores, TopK
from edgekit.core.measurement import wilson_interval
from edgekit.evaluate.calibration import measure_calibration
from edgekit.evaluate.classwise import average_classes, score_classes, weigh_answers
from edgekit.evaluate.metrics import Labels, Logits, accuracy, confusion, top_k_credit
from edgekit.evaluate.probabilities import check_probabilities, to_probabilities
from edgekit.evaluate.ranking import keep_curves, rank_classes


def score_model(
    values: Logits,
    labels: Labels,
    class_names: Sequence[str],
    *,
    top_k: Sequence[int] = (),
    are_probabilities: bool = False,
) -> ModelScores:
    """Measure everything.

    Args:
        values: Answers [n, classes], n at least 1: logits, or probabilities.
        labels: [n], 0 to classes - 1.
        class_names: In label order.
        top_k: Further k to measure besides 1, and 5 where there are more than 5 classes.
        are_probabilities: Whether `values` are probabilities already.

    Raises:
        DataError: Answers that are not finite, labels out of range, shapes that do not fit, no picture, or logits
            where probabilities should be.
        UsageError: A k below 1 or above the number of classes.
    """
    found = accuracy(values, labels)
    if found.n == 0:
        raise DataError("no picture to evaluate on", hint="give a dataset with test pictures by --data")
    matrix = confusion(values, labels, len(class_names))
    ks = choose_k(top_k, len(class_names))
    probabilities = check_probabilities(values) if are_probabilities else to_probabilities(values)
    answers = weigh_answers(values, labels)
    ranking = rank_classes(probabilities, labels)
    classes = score_classes(answers, ranking, class_names)
    return ModelScores(
        accuracy=found,
        top_k=tuple(_top_k(values, labels, k) for k in ks),
        averages=average_classes(answers, classes),
        classes=classes,
        confusion=tuple(tuple(row) for row in matrix.tolist()),
        num_tied=answers.num_tied,
        roc=keep_curves(ranking, class_names),
        calibration=measure_calibration(probabilities, labels, top_k_credit(values, labels, 1)),
    )


def choose_k(asked: Sequence[int], num_classes: int) -> tuple[int, ...]:
    """The k to measure, rising: 1, 5 where it says something, and those asked for.

    >>> choose_k((), 10), choose_k((3,), 10), choose_k((), 4)
    ((1, 5), (1, 3, 5), (1,))

    Raises:
        UsageError: A k below 1 or above the number of classes.
    """
    for k in asked:
        if not 1 <= k <= num_classes:
            raise UsageError(
                f"top-{k} of {num_classes} classes cannot be measured, expected 1 to {num_classes}",
                hint="choose a smaller k",
            )
    return tuple(sorted({1, *([5] if num_classes > 5 else []), *asked}))


def _top_k(values: Logits, labels: Labels, k: int) -> TopK:
    credit = float(top_k_credit(values, labels, k).sum())
    return TopK(k=k, share=credit / len(labels), ci95=wilson_interval(credit, len(labels)))
