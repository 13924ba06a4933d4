"""Occlusion: cover one part of the picture after the other, and see how far the answer falls.

Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2. It needs nothing but answers, so it works on any file, through its
own runtime: what is shown is what the board would do.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import GraphError, UsageError
from edgekit.core.explanation import Occlusion
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.progress import Progress
from edgekit.runtime.classify import softmax
from edgekit.runtime.preprocess import Picture
from edgekit.verify.answers import Logits, Predictor

WINDOW_SHARE = 0.2
"""Side of the square by the short side of the input: 45 of 224 pixels (the paper covers 50), 6 of 28."""
STRIDES_PER_WINDOW = 3
_BATCH = 32


class OcclusionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Where the squares lie.

    Args:
        window: Side in pixels.
        stride: Largest distance of two neighbouring centres, pixels.
        rows: Centres from the top, pixels.
        columns: Centres from the left, pixels.
    """

    window: int
    stride: int
    rows: tuple[float, ...]
    columns: tuple[float, ...]

    @property
    def num_windows(self) -> int:
        """Squares in all."""
        return len(self.rows) * len(self.columns)


def plan_occlusion(input_size: tuple[int, int], window: int | None = None, stride: int | None = None) -> OcclusionPlan:
    """Spread the squares evenly over a picture: about 15 x 15 of them.

    >>> plan = plan_occlusion((224, 224))
    >>> plan.window, plan.stride, plan.num_windows
    (45, 15, 225)

    Args:
        input_size: Height and width that the model sees.
        window: Side of the squares in pixels; None for a fifth of the short side.
        stride: Most pixels from one to the next; None for a third of the window.

    Raises:
        UsageError: A window that is no part of the picture, or a stride that leaves gaps.
    """
    short = min(input_size)
    window = max(1, round(WINDOW_SHARE * short)) if window is None else window
    if not 1 <= window < short:
        raise UsageError(
            f"an occlusion window of {window} pixels, expected 1 to {short - 1}: the model sees "
            f"{input_size[0]}x{input_size[1]}",
            hint="leave --window out for a fifth of the picture",
        )
    stride = max(1, window // STRIDES_PER_WINDOW) if stride is None else stride
    if not 1 <= stride <= window:
        raise UsageError(
            f"an occlusion stride of {stride} pixels, expected 1 to {window}, the window",
            hint="a larger one would leave parts of the picture that are never covered",
        )
    rows, columns = (_centres(size, stride) for size in input_size)
    return OcclusionPlan(window=window, stride=stride, rows=rows, columns=columns)


def measure_occlusion(
    predict: Predictor,
    picture: Picture,
    spec: PreprocessSpec,
    label: int,
    plan: OcclusionPlan,
    progress: Progress,
) -> Occlusion:
    """Cover one square after the other and measure the drop of a class's probability.

    The squares have the mean colour of the pictures that the model was trained on, which it sees as zeros.

    Args:
        predict: Pictures to logits.
        picture: uint8 [h, w, c], fitted to the model's input.
        spec: Picture to input.
        label: Class.
        plan: Where the squares lie.
        progress: Advanced once per square.
    """
    whole = probabilities(predict(picture[np.newaxis]))[0, label]
    drops: list[npt.NDArray[np.float64]] = []
    for batch in _batches(picture, spec, plan):
        drops.append(whole - probabilities(predict(batch))[:, label])
        progress.advance(len(batch))
    grid = np.concatenate(drops).reshape(len(plan.rows), len(plan.columns))
    row, column = np.unravel_index(int(grid.argmax()), grid.shape)
    return Occlusion(
        window=plan.window,
        stride=plan.stride,
        drops=tuple(tuple(round(float(drop), 6) for drop in line) for line in grid),
        largest_drop=float(grid.max()),
        row=int(plan.rows[row]),
        column=int(plan.columns[column]),
    )


def correlate(first: Occlusion, second: Occlusion) -> float | None:
    """Pearson correlation of two maps of the same plan; None where one of them is the same everywhere."""
    maps = [np.array(one.drops).ravel() for one in (first, second)]
    if any(np.ptp(values) == 0 for values in maps):
        return None
    return round(float(np.corrcoef(maps[0], maps[1])[0, 1]), 6)


def probabilities(logits: Logits) -> npt.NDArray[np.float64]:
    """Softmax along the classes, float64 [n, classes].

    Raises:
        GraphError: Answers that are NaN or infinite.
    """
    if not bool(np.isfinite(logits).all()):
        raise GraphError("the model answered with NaN or infinity", hint="check it with `edgekit evaluate`")
    return softmax(logits.astype(np.float64))


def _centres(size: int, stride: int) -> tuple[float, ...]:
    count = -(-size // stride)
    return tuple((index + 0.5) * size / count for index in range(count))


def _batches(picture: Picture, spec: PreprocessSpec, plan: OcclusionPlan) -> Iterator[Picture]:
    """Covered copies of the picture, row by row, at most 32 at once."""
    fill = np.clip(np.rint(255 * np.array(spec.mean)), 0, 255).astype(np.uint8)
    centres = [(row, column) for row in plan.rows for column in plan.columns]
    for start in range(0, len(centres), _BATCH):
        some = centres[start : start + _BATCH]
        covered = np.repeat(picture[np.newaxis], len(some), axis=0)
        for copy, (row, column) in zip(covered, some, strict=True):
            copy[_side(row, plan.window), _side(column, plan.window)] = fill
        yield covered


def _side(centre: float, window: int) -> slice:
    """Pixels that a square covers along one side; what lies outside the picture is cut off."""
    start = round(centre - window / 2)
    return slice(max(0, start), start + window)
