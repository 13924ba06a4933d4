"""Which pictures go along with a model, and what it has to answer: chosen where two runtimes agree, and clearly."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.bundle.golden import margins
from edgekit.core.errors import BarNotMetError

MAX_GOLDEN_BYTES = 512 * 1024
"""Pictures are stored as they are; eight of 224 x 224 would weigh a third of a whole MobileNet."""

MIN_PICTURES = 2
_STEPS = 16
_ROOM = 2.0
_RELATIVE = 1e-3


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """Candidates and what both files say about them.

    Args:
        pictures: uint8 [n, height, width, channels], fitted.
        judge: float32 [n, classes], answers of the judge (ONNX Runtime, exact integers).
        model: float32 [n, classes], answers of the file that is shipped.
        step: Distance of neighbouring logits of the shipped file; 0 for float.
    """

    pictures: npt.NDArray[np.uint8]
    judge: npt.NDArray[np.float32]
    model: npt.NDArray[np.float32]
    step: float


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """The golden pictures.

    Args:
        indices: Of the candidates, in the order of the bundle.
        tolerance: Largest error of a logit that is still right.
    """

    indices: tuple[int, ...]
    tolerance: float


def num_that_fit(picture_bytes: int, wanted: int) -> int:
    """How many pictures go along: as many as wanted, fewer when they are large, two at least.

    >>> num_that_fit(28 * 28, 8), num_that_fit(224 * 224 * 3, 8), num_that_fit(512 * 512 * 3, 8)
    (8, 3, 2)
    """
    return max(min(wanted, MIN_PICTURES), min(wanted, MAX_GOLDEN_BYTES // picture_bytes))


def choose(judged: Judged, num_pictures: int) -> Chosen:
    """Choose pictures of different classes with the clearest answers.

    The tolerance is sixteen steps of the output's grid (other processors round otherwise, layer after layer: up to
    eleven were seen between x86-64 and ARM), twice what the two runtimes differ by on the candidates, or a thousandth
    of the logits' range, whichever is largest. Pictures are taken whose best two answers are more than twice that
    apart; where those are fewer than two, the clearest of the others.

    Raises:
        BarNotMetError: The two files agree clearly on no picture.
    """
    finite = np.isfinite(judged.judge).all(axis=1) & np.isfinite(judged.model).all(axis=1)
    best = judged.judge.argmax(axis=1)
    agree = finite & (best == judged.model.argmax(axis=1))
    if not agree.any():
        raise _none(len(best), "the ONNX and the shipped file name different classes on all of them")
    error = float(np.abs(judged.judge.astype(np.float64) - judged.model)[agree].max())
    spread = float(np.ptp(judged.judge[agree]))
    tolerance = max(_STEPS * judged.step, _ROOM * error, _RELATIVE * spread)
    margin = np.where(agree, np.minimum(margins(judged.judge), margins(judged.model)), 0.0)
    for least in (2 * tolerance, max(2 * error, judged.step)):
        clear = [int(index) for index in np.argsort(-margin, kind="stable") if margin[index] > least]
        if len(clear) >= min(MIN_PICTURES, num_pictures):
            return Chosen(indices=tuple(_by_class(clear, best)[:num_pictures]), tolerance=_rounded(tolerance))
    raise _none(len(best), f"their best two classes are not more than {least:.3g} apart on two of them")


def _by_class(clear: Sequence[int], best: npt.NDArray[np.int64]) -> list[int]:
    """Clear pictures, the best of every class first, then the second best, ..."""
    seen: dict[int, int] = {}
    ranked: list[tuple[int, int]] = []
    for index in clear:
        rank = seen.get(int(best[index]), 0)
        seen[int(best[index])] = rank + 1
        ranked.append((rank, index))
    return [index for _, index in sorted(ranked, key=lambda pair: pair[0])]


def _rounded(tolerance: float) -> float:
    """Three digits are enough; rounded up."""
    return float(f"{1.005 * tolerance:.3g}")


def _none(num: int, why: str) -> BarNotMetError:
    return BarNotMetError(
        f"no golden picture among {num} candidates: {why}",
        hint="the model answers nothing clearly: is it trained? edgekit verify RUN compares its files",
    )
