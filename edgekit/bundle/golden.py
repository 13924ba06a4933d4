"""Whether a model that was loaded gives the answers that its bundle says it must."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.bundle.reading import Bundle
from edgekit.core.errors import BarNotMetError


def check_answers(bundle: Bundle, answers: npt.NDArray[np.float32], first: int = 0) -> None:
    """Check answers to the golden pictures.

    Args:
        bundle: A checked one.
        answers: float32 [n, classes], of n golden pictures from `first` on.
        first: Index of the first of them.

    Raises:
        BarNotMetError: An answer that is not finite, another class, or a logit further off than the tolerance; names
            the picture, expected and got.
    """
    tolerance, num = bundle.manifest.golden.tolerance, len(bundle.manifest.golden.top1)
    for index, answer in enumerate(answers, start=first):
        expected = bundle.logits[index]
        where = f"{bundle.path}: golden picture {index + 1} of {num}"
        if answer.shape != expected.shape:
            raise _wrong(f"{where} has {answer.size} answers, expected {expected.size}")
        if not bool(np.isfinite(answer).all()):
            raise _wrong(f"{where}: expected {_named(bundle, expected)}, got NaN or infinity")
        if int(answer.argmax()) != bundle.manifest.golden.top1[index]:
            raise _wrong(f"{where}: expected {_named(bundle, expected)}, got {_named(bundle, answer)}")
        error = float(np.abs(answer.astype(np.float64) - expected).max())
        if error > tolerance:
            raise _wrong(
                f"{where}: {_named(bundle, expected)}, as expected, but a logit is off by {error:.4g}, "
                f"expected at most {tolerance:.4g}"
            )


def margins(answers: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Distance of the best answer from the second, float64 [n]; infinite where there is only one class.

    >>> margins(np.array([[1.0, 4.0, 3.5]], np.float32)).tolist()
    [0.5]
    """
    if answers.shape[1] < 2:
        return np.array([np.inf] * answers.shape[0], np.float64)
    best: npt.NDArray[np.float64] = np.sort(answers.astype(np.float64), axis=1)
    return np.array(best[:, -1] - best[:, -2], np.float64)


def _named(bundle: Bundle, answer: npt.NDArray[np.float32]) -> str:
    index = int(answer.argmax())
    return f"{bundle.labels[index]!r} ({float(answer[index]):.4g})"


def _wrong(what: str) -> BarNotMetError:
    return BarNotMetError(what, hint="this model must not serve here: report the runtime's version, or build it again")
