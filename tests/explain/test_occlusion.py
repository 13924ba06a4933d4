"""Occlusion: where the squares lie, and what they take away, on functions and on real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.artifact import ModelCard
from edgekit.core.errors import GraphError, UsageError
from edgekit.core.explanation import Occlusion
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.progress import Silent
from edgekit.explain.occlusion import correlate, measure_occlusion, plan_occlusion
from edgekit.export.tflite import write_tflite
from edgekit.verify.answers import Logits
from edgekit.verify.contenders import open_contender
from graphs import GraphBuilder, quantize_for_test

SIZE = 16
SPEC = PreprocessSpec(input_size=(SIZE, SIZE), num_channels=1, mean=(0.0,), std=(1.0,))


class Counter(Silent):
    """A progress that adds up."""

    def __init__(self) -> None:
        self.count = 0

    def advance(self, amount: int = 1, status: str = "") -> None:
        del status
        self.count += amount


SIZES = st.integers(2, 90)
SIDES = st.integers(1, 40)


@given(height=SIZES, width=SIZES, window=SIDES, stride=st.none() | SIDES)
def test_every_pixel_is_covered_by_a_square(height: int, width: int, window: int, stride: int | None) -> None:
    window = min(window, min(height, width) - 1)
    plan = plan_occlusion((height, width), window, None if stride is None else min(stride, window))
    picture = np.full((height, width, 1), 200, np.uint8)
    seen = np.zeros((height, width), int)

    def predict(pictures: np.ndarray) -> Logits:
        seen[:] += (pictures[:, :, :, 0] == 0).sum(axis=0)
        return np.zeros((len(pictures), 2), np.float32)

    progress = Counter()
    found = measure_occlusion(predict, picture, SPEC, 0, plan, progress)

    assert seen.min() > 0
    assert progress.count == plan.num_windows
    assert (len(found.drops), len(found.drops[0])) == (len(plan.rows), len(plan.columns))
    assert found.largest_drop == 0


def test_drop_is_that_of_the_probability_where_the_pixel_is_covered() -> None:
    picture = np.full((SIZE, SIZE, 1), 10, np.uint8)
    picture[5, 11] = 255

    def predict(pictures: np.ndarray) -> Logits:
        lit = (pictures[:, 5, 11, 0] == 255).astype(np.float32)
        return np.stack([np.zeros_like(lit), lit * np.float32(np.log(3))], axis=1)  # 1/4 and 3/4, or a half each

    plan = plan_occlusion((SIZE, SIZE), 4, 2)
    found = measure_occlusion(predict, picture, SPEC, 1, plan, Silent())

    for row, line in zip(plan.rows, found.drops, strict=True):
        for column, drop in zip(plan.columns, line, strict=True):
            covers = round(row - 2) <= 5 < round(row - 2) + 4 and round(column - 2) <= 11 < round(column - 2) + 4
            assert drop == pytest.approx(0.25 if covers else 0.0, abs=1e-6)
    assert found.largest_drop == pytest.approx(0.25)
    assert (abs(found.row - 5), abs(found.column - 11)) <= (2, 2)


def write_quadrant_file(path: Path, rows: slice, columns: slice) -> Path:
    """An int8 TFLite file whose class 1 is the brightness of one part of the picture."""
    net = GraphBuilder((1, 1, SIZE, SIZE))
    net.constant("one", [[[[1.0]]]])
    attrs = {"strides": (1, 1), "pads": (0, 0, 0, 0), "group": 1, "dilations": (1, 1)}
    (maps,) = net.node("Conv", ["input", "one"], [(1, 1, SIZE, SIZE)], attrs)
    weight = np.zeros((2, SIZE, SIZE), np.float32)
    weight[1, rows, columns] = 4.0 / 64
    net.constant("head", weight.reshape(2, -1))
    net.node("Gemm", [net.flatten(net.relu(maps)), "head"], [(1, 2)])
    graph = net.build()
    x = np.random.default_rng(0).uniform(0, 1, (8, 1, SIZE, SIZE)).astype(np.float32)
    x[0], x[1] = 0, 1
    card = ModelCard(model="quadrant", scheme="static_wi8_ai8", labels=("dark", "bright"), preprocess=SPEC)
    return write_tflite(quantize_for_test(graph, x), path, card).path


@pytest.mark.parametrize(("rows", "columns"), [(slice(0, 8), slice(8, 16)), (slice(8, 16), slice(0, 8))])
def test_occlusion_of_a_real_file_lights_the_quadrant_that_the_class_depends_on(
    tmp_path: Path, rows: slice, columns: slice
) -> None:
    contender = open_contender(str(write_quadrant_file(tmp_path / "model.tflite", rows, columns)), num_threads=1)
    picture = np.full((SIZE, SIZE, 1), 140, np.uint8)
    plan = plan_occlusion((SIZE, SIZE), 3, 1)

    found = measure_occlusion(contender.predict, picture, SPEC, 1, plan, Silent())
    again = measure_occlusion(contender.predict, picture, SPEC, 1, plan, Silent())

    drops = np.array(found.drops)
    assert found == again
    inside = drops[rows, columns][2:-2, 2:-2]  # whose squares lie in the quadrant whole
    assert inside.min() > 0.02
    outside = drops.copy()
    outside[max(0, rows.start - 1) : rows.stop + 1, max(0, columns.start - 1) : columns.stop + 1] = 0
    assert not outside.any()
    assert rows.start <= found.row < rows.stop
    assert columns.start <= found.column < columns.stop


def test_plan_scales_with_the_picture() -> None:
    for size in (16, 28, 32, 64, 96, 224, 300):
        plan = plan_occlusion((size, size))
        assert 0.15 < plan.window / size < 0.25
        assert plan.stride <= plan.window / 2
        assert 100 <= plan.num_windows <= 400


@pytest.mark.parametrize(
    ("window", "stride", "message"),
    [
        (0, None, "window of 0 pixels, expected 1 to 27"),
        (28, None, "window of 28 pixels, expected 1 to 27"),
        (6, 7, "stride of 7 pixels, expected 1 to 6"),
        (6, 0, "stride of 0 pixels, expected 1 to 6"),
    ],
)
def test_impossible_plans_are_refused(window: int, stride: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_occlusion((28, 28), window, stride)


def test_answers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(GraphError, match="NaN"):
        measure_occlusion(
            lambda pictures: np.full((len(pictures), 2), np.nan, np.float32),
            np.zeros((8, 8, 1), np.uint8),
            SPEC,
            0,
            plan_occlusion((8, 8)),
            Silent(),
        )


def occlusion(drops: list[list[float]]) -> Occlusion:
    rows = tuple(tuple(line) for line in drops)
    return Occlusion(window=2, stride=1, drops=rows, largest_drop=max(map(max, rows)), row=0, column=0)


def test_correlation_of_maps() -> None:
    first = occlusion([[0.0, 0.1], [0.2, 0.5]])
    assert correlate(first, occlusion([[0.0, 0.2], [0.4, 1.0]])) == pytest.approx(1.0)
    assert correlate(first, occlusion([[0.0, -0.1], [-0.2, -0.5]])) == pytest.approx(-1.0)
    assert correlate(first, occlusion([[0.1, 0.1], [0.1, 0.1]])) is None
