"""The content of `evaluate.json`, versioned: every metric of one model, or of two on the same pictures.

`edgekit.evaluate` computes it, `edgekit.report` draws it; nothing in it is HTML.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgekit.core.measurement import Accuracy
from edgekit.core.report import ReportDataset

EVALUATION_VERSION = 1


class TopK(msgspec.Struct, frozen=True, kw_only=True):
    """Share of pictures whose right class is among the best k answers.

    Args:
        k: Answers that count.
        share: 0..1; of classes that tie, each takes its chance.
        ci95: 95 % Wilson interval.
    """

    k: int
    share: float
    ci95: tuple[float, float]


class Averages(msgspec.Struct, frozen=True, kw_only=True):
    """Means over classes, every class counting the same however many pictures it has ("macro").

    Args:
        balanced_accuracy: Mean recall of the classes that have pictures.
        balanced_ci95: Its 95 % interval, Wilson's for the number of pictures that the classes' sizes are worth.
        precision: Mean of the same classes; one that was never answered counts 0.
        f_score: Mean F1 of the same classes.
        auc: Mean area under the one-vs-rest ROC curves, over classes with pictures of it and of others; None when
            there is no such class.
        average_precision: Mean over the same classes; None when there is none.
        num_classes: Classes that have pictures.
    """

    balanced_accuracy: float
    balanced_ci95: tuple[float, float]
    precision: float
    f_score: float
    auc: float | None
    average_precision: float | None
    num_classes: int


class ClassScores(msgspec.Struct, frozen=True, kw_only=True):
    """How one class fares against all others.

    Args:
        name: Class name.
        num_pictures: Pictures of this class.
        recall: Share of its pictures that were found, the true positive rate; None without pictures.
        recall_ci95: 95 % Wilson interval of it; None without pictures.
        precision: Share of its answers that were right; None when it was never answered.
        f_score: F1, harmonic mean of both; None with neither pictures nor answers.
        specificity: Share of other classes' pictures that were not given this answer, the true negative rate; None
            when there are no other pictures.
        false_positive_rate: 1 - specificity.
        auc: Area under the one-vs-rest ROC curve; None without pictures of it, or without others.
        average_precision: Area under precision over recall, as a sum of steps; None as `auc`.
    """

    name: str
    num_pictures: int
    recall: float | None
    recall_ci95: tuple[float, float] | None
    precision: float | None
    f_score: float | None
    specificity: float | None
    false_positive_rate: float | None
    auc: float | None
    average_precision: float | None


class RocCurve(msgspec.Struct, frozen=True, kw_only=True):
    """True positives over false positives as the threshold on one class's probability falls.

    Args:
        name: Class name; "macro" for the mean over classes.
        is_macro: Whether it is that mean.
        auc: Area under the whole curve, before thinning.
        false_positive_rate: Rising from 0 to 1; at most 201 points.
        true_positive_rate: As many.
    """

    name: str
    is_macro: bool
    auc: float
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]


class ReliabilityBin(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures whose confidence lies in (low, high].

    Args:
        low: Lower bound; the first bin holds 0 too.
        high: Upper bound.
        num_pictures: Pictures.
        confidence: Mean confidence; None when empty.
        accuracy: Share of right answers; None when empty.
        accuracy_ci95: 95 % Wilson interval; None when empty.
    """

    low: float
    high: float
    num_pictures: int
    confidence: float | None
    accuracy: float | None
    accuracy_ci95: tuple[float, float] | None


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a confidence of 80 % is right 80 % of the time.

    Args:
        expected_error: Mean distance of accuracy and confidence over bins, weighted by pictures: the expected
            calibration error, ECE (Guo et al. 2017, eq. 3).
        largest_error: The same distance in the worst bin, MCE (eq. 5).
        mean_confidence: Of the answers given.
        log_loss: Mean negative logarithm of the right class's probability, nats.
        bins: Of equal width over 0..1.
    """

    expected_error: float
    largest_error: float
    mean_confidence: float
    log_loss: float
    bins: tuple[ReliabilityBin, ...]


class ClassBalance(msgspec.Struct, frozen=True, kw_only=True):
    """How evenly the pictures are spread over the classes.

    Args:
        is_imbalanced: Whether balanced accuracy should be looked at first: the largest class has more than 1.5 times
            the pictures of the smallest, and chance does not explain it (chi-square test, p below 0.01).
        ratio: Pictures of the largest class by those of the smallest that has any.
        p_value: Chance of counts so uneven if all classes with pictures were as frequent.
        largest: Name of the class with most pictures.
        smallest: Name of the class with fewest, of those that have any.
        majority_share: Accuracy of always answering the largest class.
        missing: Names of the classes without pictures.
    """

    is_imbalanced: bool
    ratio: float
    p_value: float
    largest: str
    smallest: str
    majority_share: float
    missing: tuple[str, ...]


class EvaluatedModel(msgspec.Struct, frozen=True, kw_only=True):
    """What was evaluated.

    Args:
        given: What the user named.
        file: Name of the file that answered; None for torch weights.
        model: Variant name.
        scheme: Scheme id; "float" for a float model.
        runtime: "litert 2.3.0", "onnxruntime 1.32.0", "torch 2.9.0", ...
        size_bytes: Of the file; None for torch weights.
        sha256: Of the file; None for torch weights.
    """

    given: str
    file: str | None
    model: str
    scheme: str
    runtime: str
    size_bytes: int | None
    sha256: str | None


class ModelScores(msgspec.Struct, frozen=True, kw_only=True):
    """Every metric of one model.

    Args:
        accuracy: Top-1 (and top-5) with its interval.
        top_k: Further k, from the smallest, 1 first.
        averages: Means over classes.
        classes: In label order.
        confusion: Rows: right class, columns: answer; where classes tie for the best answer, one is drawn.
        num_tied: Pictures on which classes tie for the best answer. All shares count them in part.
        roc: The macro curve first, then of all classes or, where there are many, of those with the smallest area.
            Empty when no class has a curve.
        calibration: Confidence against accuracy.
    """

    accuracy: Accuracy
    top_k: tuple[TopK, ...]
    averages: Averages
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]
    num_tied: int
    roc: tuple[RocCurve, ...]
    calibration: Calibration


class Evaluated(msgspec.Struct, frozen=True, kw_only=True):
    """One model, and its scores."""

    about: EvaluatedModel
    scores: ModelScores


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two models on the same pictures: McNemar's test of who is right more often (McNemar 1947).

    Args:
        n: Pictures.
        num_both_right: Both models right.
        num_only_first: Only the first right.
        num_only_second: Only the second right.
        num_both_wrong: Neither right.
        p_value: Two-sided, of equal accuracy; 1 without a discordant picture.
        is_exact: Whether it is the binomial test (fewer than 25 discordant pictures) or the chi-square approximation
            with continuity correction (Edwards 1948).
        difference: Accuracy of the first minus that of the second, by whole answers; -1..1.
        difference_ci95: Its 95 % interval for matched pairs (Agresti and Min 2005).
        same_answer: Share of pictures with the same top-1 answer, right or wrong.
    """

    n: int
    num_both_right: int
    num_only_first: int
    num_only_second: int
    num_both_wrong: int
    p_value: float
    is_exact: bool
    difference: float
    difference_ci95: tuple[float, float]
    same_answer: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `edgekit evaluate` measured. See docs/evaluate.md for the schema.

    Args:
        dataset: What was measured on.
        balance: How the pictures are spread over the classes.
        model: The model.
        other: The model beside it; None for none.
        comparison: Of the two; None for one.
        environment: Versions, processor.
        command: The command that was given.
        created: ISO 8601 time, with its zone.
        version: Of this schema.
    """

    dataset: ReportDataset
    balance: ClassBalance
    model: Evaluated
    other: Evaluated | None
    comparison: Comparison | None
    environment: Mapping[str, str]
    command: str
    created: str
    version: int = EVALUATION_VERSION
