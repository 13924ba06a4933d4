"""What follows from an evaluation, in words: the headline, the comparison, what to mind. Pure."""

from __future__ import annotations

import msgspec

from edgekit.core.evaluation import ClassBalance, ClassScores, Comparison, Evaluated, Evaluation, ModelScores
from edgekit.report.findings import absent_sentence
from edgekit.report.formatting import DASH, MINUS, format_percent, format_points, percent_digits, plural, printable

ALPHA = 0.05
"""Below this p-value two models are told apart."""


class Headline(msgspec.Struct, frozen=True, kw_only=True):
    """A share that stands on top.

    Args:
        title: What it is.
        share: 0..1.
        ci95: Its 95 % interval.
    """

    title: str
    share: float
    ci95: tuple[float, float]


def models(evaluation: Evaluation) -> tuple[Evaluated, ...]:
    """The model, and the one beside it."""
    return (evaluation.model,) if evaluation.other is None else (evaluation.model, evaluation.other)


def headlines(evaluation: Evaluation, scores: ModelScores) -> tuple[Headline, Headline]:
    """Top-1 and balanced accuracy; the balanced one first where the classes are imbalanced."""
    top1 = Headline(title="Top-1 accuracy", share=scores.accuracy.top1, ci95=scores.accuracy.ci95)
    means = scores.averages
    balanced = Headline(title="Balanced accuracy", share=means.balanced_accuracy, ci95=means.balanced_ci95)
    return (balanced, top1) if evaluation.balance.is_imbalanced else (top1, balanced)


def headline(evaluation: Evaluation) -> str:
    """The one sentence about the model."""
    first, _ = headlines(evaluation, evaluation.model.scores)
    digits = percent_digits(evaluation.dataset.n)
    low, high = (format_percent(bound, digits) for bound in first.ci95)
    share = format_percent(first.share, digits)
    return f"{first.title} {share}, 95 % interval {low.removesuffix(' %')} to {high}"


def comparison_sentence(comparison: Comparison, model: str, other: str) -> str:
    """Whether the two are told apart, and by how much they differ."""
    low, high = comparison.difference_ci95
    model, other = printable(model), printable(other)
    digits = percent_digits(comparison.n)
    spread = f"{format_points(low, digits).removesuffix(' points')} to {format_points(high, digits)}"
    p_value = format_p(comparison.p_value)
    if comparison.p_value >= ALPHA:
        return (
            f"Not told apart: {model} stands at {format_points(comparison.difference, digits)} against {other} "
            f"(95 % interval {spread}; McNemar's test: {p_value})"
        )
    ahead, behind = (model, other) if comparison.difference > 0 else (other, model)
    return (
        f"{ahead} is right more often than {behind}: {format_points(comparison.difference, digits)} for {model} "
        f"(95 % interval {spread}; McNemar's test: {p_value})"
    )


def test_name(comparison: Comparison) -> str:
    """Which form of McNemar's test was taken."""
    return "exact binomial" if comparison.is_exact else "chi-square with continuity correction"


def format_p(p_value: float) -> str:
    """A p-value with two significant digits.

    >>> format_p(0.0894), format_p(3.2e-9), format_p(1.0)
    ('p = 0.089', 'p < 0.0001', 'p = 1')
    """
    return "p < 0.0001" if p_value < 1e-4 else f"p = {p_value:.2g}"


def remarks(evaluation: Evaluation) -> list[str]:
    """What to mind when reading the numbers: imbalance, classes without pictures, ties, pictures left out."""
    balance, digits = evaluation.balance, percent_digits(evaluation.dataset.n)
    said: list[str] = []
    if balance.is_imbalanced:
        leads = "So balanced accuracy, the mean over classes, leads."
        said.append(f"{imbalance_sentence(balance, digits)} {leads}")
    if balance.missing:
        said.append(f"{absent_sentence(balance.missing)} Means leave classes without pictures out.")
    tied = [one.scores.num_tied for one in models(evaluation)]
    if max(tied):
        counts = " and ".join(f"{count:,}" for count in tied)
        said.append(
            f"On {counts} of {plural(evaluation.dataset.n, 'picture')} classes tie for the best answer: shares count "
            f"such a picture in part for each, tables of whole answers draw one."
        )
    if left_out := evaluation.dataset.num_left_out:
        said.append(f"{plural(left_out, 'unreadable picture was', 'unreadable pictures were')} left out.")
    return said


def imbalance_sentence(balance: ClassBalance, digits: int) -> str:
    """How uneven the classes are, and what a model is worth that knows no more than that."""
    largest, smallest = printable(balance.largest), printable(balance.smallest)
    return (
        f"The classes are unevenly filled: {largest} has {balance.ratio:.1f} times the pictures of {smallest}, and "
        f"always answering {largest} would be right on {format_percent(balance.majority_share, digits)}."
    )


def weakest_first(scores: ModelScores, most: int | None = None) -> list[ClassScores]:
    """Classes with pictures, the least found first; at most `most`."""
    known = [row for row in scores.classes if row.recall is not None]
    known.sort(key=lambda row: (row.recall or 0.0, -row.num_pictures))
    return known[:most]


def signed(difference: float | None, digits: int) -> str:
    """A difference of two shares in points without the word, empty where one is not known.

    >>> signed(0.0123, 1), signed(None, 1)
    ('+1.2', '')
    """
    if difference is None:
        return ""
    rounded = round(100 * difference, digits)
    return "±0" if rounded == 0 else f"{'+' if rounded > 0 else MINUS}{abs(rounded):.{digits}f}"


def average_rows(evaluation: Evaluation) -> list[tuple[str, tuple[str, ...]]]:
    """Every single number, and its value for each model."""
    digits = percent_digits(evaluation.dataset.n)
    sides = [one.scores for one in models(evaluation)]

    def share(value: float | None) -> str:
        return format_percent(value, digits)

    def with_interval(value: float, ci95: tuple[float, float]) -> str:
        low, high = (share(bound).removesuffix(" %") for bound in ci95)
        return f"{share(value)} ({low} to {high})"

    rows = [
        (f"top-{row[0].k}", tuple(with_interval(one.share, one.ci95) for one in row))
        for row in zip(*(scores.top_k for scores in sides), strict=True)
    ]
    means = [scores.averages for scores in sides]
    values = tuple(with_interval(one.balanced_accuracy, one.balanced_ci95) for one in means)
    balanced = ("balanced accuracy", values)
    rows = [balanced, *rows] if evaluation.balance.is_imbalanced else [*rows, balanced]
    return [
        *rows,
        ("mean precision", tuple(share(one.precision) for one in means)),
        ("mean F1", tuple(share(one.f_score) for one in means)),
        ("mean AUC, one against the rest", tuple(format_area(one.auc) for one in means)),
        ("mean average precision", tuple(format_area(one.average_precision) for one in means)),
        ("calibration error (ECE)", tuple(share(one.calibration.expected_error) for one in sides)),
        ("mean confidence", tuple(share(one.calibration.mean_confidence) for one in sides)),
        ("log loss, nats", tuple(f"{one.calibration.log_loss:.3f}" for one in sides)),
    ]


def format_area(value: float | None) -> str:
    """An area under a curve with four decimals, a dash for None. One below 1 is never rounded up to it.

    >>> format_area(0.98765), format_area(0.99999), format_area(1.0)
    ('0.9877', '0.9999', '1.0000')
    """
    if value is None:
        return DASH
    return f"{min(value, 0.9999) if value < 1 else value:.4f}"
