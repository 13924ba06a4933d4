"""Mean corruption error, and whether two models differ in it (Hendrycks and Dietterich 2019, section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import DataError

_Z95 = 1.959964
_NOTHING = 1e-9
"""Sum of losses up to which nothing was lost: a rest of rounding, far below one picture."""

Errors = Sequence[float]
"""Share of wrong answers by severity, 0..1."""


def corruption_error(errors: Errors, reference: Errors) -> float | None:
    """CE: the errors over all severities in percent of the reference's; None where that makes no mistake.

    >>> corruption_error([0.2, 0.4], [0.1, 0.2]), corruption_error([0.1], [0.0])
    (200.0, None)
    """
    total = math.fsum(reference)
    return 100 * math.fsum(errors) / total if total > 0 else None


def relative_corruption_error(errors: Errors, plain: float, reference: Errors, reference_plain: float) -> float | None:
    """Relative CE: what each model loses against unchanged pictures; None where the reference loses nothing.

    Args:
        errors: Of the model.
        plain: Its error on unchanged pictures.
        reference: Errors of the reference.
        reference_plain: Its error on unchanged pictures.

    >>> round(relative_corruption_error([0.3, 0.5], 0.1, [0.2, 0.3], 0.1), 6)
    200.0
    """
    lost = math.fsum(error - reference_plain for error in reference)
    return 100 * math.fsum(error - plain for error in errors) / lost if lost > _NOTHING else None


def mean_known(values: Sequence[float | None]) -> float | None:
    """Mean over the corruptions that have an error (mCE); None where none has.

    >>> mean_known([100.0, None, 50.0]), mean_known([None])
    (75.0, None)
    """
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def paired_difference(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> tuple[float, tuple[float, float]]:
    """Mean of second - first with its 95 % interval, pictures as the units.

    The corruptions of one picture are no independent trials, so each picture counts once, by its mean over them.

    Args:
        first: Share of right answers per picture, float64 [n].
        second: The same of another model.

    Raises:
        DataError: No picture, or another number of them.
    """
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise DataError(f"scores of shapes {list(first.shape)} and {list(second.shape)} cannot be compared")
    each = second - first
    mean = float(each.mean())
    spread = _Z95 * float(each.std(ddof=1)) / math.sqrt(each.size) if each.size > 1 else 1.0
    return mean, (max(-1.0, mean - spread), min(1.0, mean + spread))
