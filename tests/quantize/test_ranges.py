from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.quantize.histogram import HistogramObserver
from edgekit.quantize.ranges import RangeMethod, choose_grid, expected_error, grid_of_range

ends = st.floats(-1e6, 1e6, allow_subnormal=False)
METHODS: tuple[RangeMethod, ...] = ("minmax", "percentile", "mse")


def histogram_of(values: npt.NDArray[np.floating]):  # noqa: ANN201
    observer = HistogramObserver("a")
    observer.update(values.astype(np.float32))
    return observer.finish()


def squared_error(values: npt.NDArray[np.floating], method: RangeMethod) -> float:
    grid = choose_grid(histogram_of(values), method)
    return float(np.mean((grid.dequantize(grid.quantize(values)) - values) ** 2))


@given(ends, ends)
def test_grid_holds_zero_exactly(lowest: float, highest: float) -> None:
    grid = grid_of_range(min(lowest, highest), max(lowest, highest))
    assert grid.dequantize(grid.quantize(np.zeros(1)))[0] == 0.0
    assert grid.qmin <= int(grid.zero_point[0]) <= grid.qmax


@given(ends, ends, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_grid_rounds_within_half_a_step_inside_the_range(a: float, b: float, shares: list[float]) -> None:
    lowest, highest = min(a, b, 0.0), max(a, b, 0.0)
    assume(highest - lowest > 1e-6)
    grid = grid_of_range(lowest, highest)
    x = lowest + np.array(shares) * (highest - lowest)
    scale = float(grid.scale[0])
    # The zero-point is whole, so the grid may end up to half a step before the range does.
    assert np.all(np.abs(grid.dequantize(grid.quantize(x)) - x) <= scale * (1.0 + 1e-4))
    inside = (x >= scale * (grid.qmin - grid.zero_point[0])) & (x <= scale * (grid.qmax - grid.zero_point[0]))
    assert np.all(np.abs(grid.dequantize(grid.quantize(x)) - x)[inside] <= scale * (0.5 + 1e-4))


@given(ends, ends, hnp.arrays(np.float64, 30, elements=st.floats(-2e6, 2e6)))
def test_grid_is_monotone(a: float, b: float, x: npt.NDArray[np.float64]) -> None:
    grid = grid_of_range(min(a, b), max(a, b))
    assert np.all(np.diff(grid.quantize(np.sort(x))) >= 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("constant", [0.0, 5.0, -3.0, 1e-20, -1e20])
def test_constant_activation_is_represented(method: RangeMethod, constant: float) -> None:
    values = np.full(100, constant, dtype=np.float32)
    grid = choose_grid(histogram_of(values), method)
    assert np.isfinite(grid.scale[0])
    assert grid.scale[0] > 0
    assert grid.dequantize(grid.quantize(values))[0] == pytest.approx(constant, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_relu6_range_is_not_exceeded(method: RangeMethod) -> None:
    values = np.clip(np.random.default_rng(0).normal(size=20_000) * 4, 0, 6)
    grid = choose_grid(histogram_of(values), method)
    assert int(grid.zero_point[0]) == -128
    assert 5.9 < float(grid.scale[0]) * 255 <= 6.0 * (1 + 1e-6)


def test_expected_error_is_the_error_of_the_values() -> None:
    rng = np.random.default_rng(1)
    values = np.minimum(rng.laplace(size=100_000), 6.0)
    histogram = histogram_of(values)
    for share in (1.0, 0.5, 0.2, 0.1):
        grid = grid_of_range(share * histogram.lowest, share * histogram.highest)
        scale, zero_point = float(grid.scale[0]), int(grid.zero_point[0])
        expected = expected_error(histogram, *(np.array([scale * (q - zero_point)]) for q in (-128, 127)))
        actual = np.mean((grid.dequantize(grid.quantize(values)) - values) ** 2)
        assert expected[0] == pytest.approx(actual, rel=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_mse_range_beats_the_others_on_heavy_tails(seed: int) -> None:
    values = np.random.default_rng(seed).laplace(size=50_000)
    error = squared_error(values, "mse")
    assert error < 0.95 * squared_error(values, "minmax")
    assert error <= squared_error(values, "percentile") * 1.001


def test_mse_range_is_close_to_exhaustive_search() -> None:
    values = np.random.default_rng(5).laplace(size=50_000) + 0.3
    histogram = histogram_of(values)
    lows, highs = np.meshgrid(np.linspace(0.2, 1, 60) * histogram.lowest, np.linspace(0.2, 1, 60) * histogram.highest)
    best = expected_error(histogram, lows.ravel(), highs.ravel()).min()
    assert squared_error(values, "mse") <= best * 1.02


def test_percentile_range_cuts_the_stated_share() -> None:
    values = np.random.default_rng(2).normal(size=100_000)
    grid = choose_grid(histogram_of(values), "percentile", percentile=99.0)
    scale, zero_point = float(grid.scale[0]), int(grid.zero_point[0])
    inside = (values >= scale * (-128 - zero_point)) & (values <= scale * (127 - zero_point))
    assert inside.mean() == pytest.approx(0.99, abs=0.002)


def test_percentile_range_keeps_one_sided_zero_when_most_values_are_zero() -> None:
    values = np.concatenate([np.zeros(999), [4.0]])
    grid = choose_grid(histogram_of(values), "percentile", percentile=99.99)
    assert grid.dequantize(grid.quantize(np.array([4.0])))[0] == pytest.approx(4.0, rel=0.01)
