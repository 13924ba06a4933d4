"""Golden pictures: what a model is asked before it serves, and which answers are right."""

# numpy's stubs lose the type of .reshape under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.bundle.manifest import LOGITS, Manifest
from edgekit.core.errors import BarNotMetError, IntegrityError


class GoldenSet(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures with their answers.

    Args:
        pictures: uint8 [n, height, width, channels], fitted to the model's input size.
        logits: float32 [n, classes], what the model has to answer.
        labels: Class names in output order.
        tolerance: Largest difference of any logit that is still a right answer.
    """

    pictures: npt.NDArray[np.uint8]
    logits: npt.NDArray[np.float32]
    labels: tuple[str, ...]
    tolerance: float


def read_golden(manifest: Manifest, labels: tuple[str, ...], pictures: bytes, logits: bytes) -> GoldenSet:
    """Read `golden.bin` and `logits.bin` of a checked manifest, whose sizes fit by that.

    Raises:
        IntegrityError: Answers that are not finite, or whose best class is not the one in the manifest.
    """
    model, golden = manifest.model, manifest.golden
    num = len(golden.top1)
    answers = np.frombuffer(logits, "<f4").astype(np.float32).reshape(num, model.num_classes)
    if not bool(np.isfinite(answers).all()):
        raise IntegrityError(f"{LOGITS} holds answers that are not finite")
    best = [int(index) for index in answers.argmax(axis=1)]
    if best != list(golden.top1):
        raise IntegrityError(f"{LOGITS} says classes {best} are best, the manifest {list(golden.top1)}")
    return GoldenSet(
        pictures=np.frombuffer(pictures, np.uint8).reshape(num, *model.input_size, model.num_channels),
        logits=answers,
        labels=labels,
        tolerance=golden.tolerance,
    )


def check_answers(golden: GoldenSet, answers: npt.NDArray[np.float32], *, first: int = 0, name: str = "") -> None:
    """Check answers to golden pictures.

    Args:
        golden: Pictures and what is right.
        answers: float32 [n, classes], of n golden pictures from `first` on.
        first: Index of the first of them.
        name: Of the bundle, for the message.

    Raises:
        BarNotMetError: An answer that is not finite, another class, or a logit further off than the tolerance; names
            the picture, expected and got.
    """
    for index, answer in enumerate(answers, start=first):
        expected = golden.logits[index]
        where = f"{name}: golden picture {index + 1} of {len(golden.logits)}"
        if answer.shape != expected.shape:
            raise _wrong(f"{where} has {answer.size} answers, expected {expected.size}")
        if not bool(np.isfinite(answer).all()):
            raise _wrong(f"{where}: expected {_named(golden, expected)}, got NaN or infinity")
        if int(answer.argmax()) != int(expected.argmax()):
            raise _wrong(f"{where}: expected {_named(golden, expected)}, got {_named(golden, answer)}")
        error = float(np.abs(answer.astype(np.float64) - expected).max())
        if error > golden.tolerance:
            raise _wrong(
                f"{where}: {_named(golden, answer)} is the right class, but a logit is off by {error:.4g}, "
                f"expected at most {golden.tolerance:.4g}"
            )


def margins(answers: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Distance of the best answer from the second, float64 [n]; infinite where there is only one class.

    >>> margins(np.array([[1.0, 4.0, 3.5]], np.float32)).tolist()
    [0.5]
    """
    if answers.shape[1] < 2:
        return np.full(answers.shape[0], np.inf)
    best = np.sort(answers.astype(np.float64), axis=1)
    return best[:, -1] - best[:, -2]


def _named(golden: GoldenSet, answer: npt.NDArray[np.float32]) -> str:
    index = int(answer.argmax())
    return f"{golden.labels[index]!r} ({float(answer[index]):.4g})"


def _wrong(what: str) -> BarNotMetError:
    return BarNotMetError(what, hint="this model must not serve here: report the runtime's version, or build it again")
