"""Two models on the same pictures: is one right more often, or is it chance?"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import binomtest, chi2

from edgekit.core.errors import DataError
from edgekit.core.evaluation import Comparison
from edgekit.evaluate.metrics import Labels, Logits, agreement, answers, check_labels

MOST_EXACT = 25
"""Discordant pictures from which on the chi-square approximation is good (and customary)."""
_Z95 = 1.959964


def compare_answers(first: Logits, second: Logits, labels: Labels) -> Comparison:
    """Compare two models by McNemar's test. Where classes tie, both get the same draw.

    Args:
        first: Answers of one model, [n, classes].
        second: Answers of the other on the same pictures.
        labels: [n], 0 to classes - 1.

    Raises:
        DataError: Shapes that differ, no picture, labels out of range, or answers that are not finite.
    """
    if first.shape != second.shape:
        raise DataError(f"answers of shapes {list(first.shape)} and {list(second.shape)} cannot be compared")
    right = answers(first) == labels
    other = answers(second) == labels
    check_labels(labels, *first.shape)
    if labels.size == 0:
        raise DataError("no picture to compare on")
    only_first, only_second = int((right & ~other).sum()), int((~right & other).sum())
    p_value, is_exact = mcnemar(only_first, only_second)
    return Comparison(
        n=len(labels),
        num_both_right=int((right & other).sum()),
        num_only_first=only_first,
        num_only_second=only_second,
        num_both_wrong=int((~right & ~other).sum()),
        p_value=p_value,
        is_exact=is_exact,
        difference=(only_first - only_second) / len(labels),
        difference_ci95=matched_interval(only_first, only_second, len(labels)),
        same_answer=agreement(first, second).top1,
    )


def mcnemar(only_first: int, only_second: int) -> tuple[float, bool]:
    """Two-sided p-value of equal accuracy, and whether it is exact (McNemar 1947).

    Under equal accuracy a discordant picture (one model right, the other wrong) is a fair coin: below 25 of them by
    the binomial test, from there on by (|b - c| - 1)^2 / (b + c) against chi-square with one degree of freedom
    (Edwards 1948).

    >>> mcnemar(1, 11)
    (0.00634765625, True)
    >>> round(mcnemar(25, 15)[0], 4)  # (|25 - 15| - 1)^2 / 40 = 2.025
    0.1547
    """
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0, True
    if discordant < MOST_EXACT:
        return float(binomtest(only_first, discordant, 0.5).pvalue), True
    statistic = max(0, abs(only_first - only_second) - 1) ** 2 / discordant
    return float(chi2.sf(statistic, df=1)), False


def matched_interval(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """95 % interval of the difference of two accuracies on the same n pictures, (only_first - only_second) / n.

    Half a picture is added to each cell of the two-by-two table, then it is the normal interval (Agresti and Min
    2005, "Simple improved confidence intervals for comparing matched proportions"); without it, no discordant picture
    would mean an interval of width zero.
    """
    first, second, total = only_first + 0.5, only_second + 0.5, n + 2.0
    centre = (first - second) / total
    half = _Z95 * math.sqrt((first + second) - (first - second) ** 2 / total) / total
    return (max(-1.0, centre - half), min(1.0, centre + half))


def is_told_apart(comparison: Comparison) -> bool:
    """Whether the test tells the two apart at the customary 5 %."""
    return bool(np.less(comparison.p_value, 0.05))
