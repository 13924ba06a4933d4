from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.core.errors import QuantizationError
from edgekit.core.quant import QuantParams
from edgekit.quantize.limits import MAX_BIAS, SMALLEST_MULTIPLIER
from edgekit.quantize.weights import (
    WeightMethod,
    choose_weight_grid,
    guard_bias,
    quantize_bias,
    quantize_operand,
    round_to_nearest,
)

weight_arrays = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-1024, 1024, width=32)
)


@given(weight_arrays, st.integers(2, 8))
def test_weights_round_within_half_a_step_and_use_no_minus_128(weight: npt.NDArray[np.float32], num_bits: int) -> None:
    grid = choose_weight_grid(weight, num_bits, "max", name="w")
    values = round_to_nearest(weight, grid)
    assert values.dtype == np.int8
    assert np.abs(values.astype(int)).max() <= 2 ** (num_bits - 1) - 1
    step = grid.scale.reshape(-1, *[1] * (weight.ndim - 1))
    assert np.all(np.abs(grid.dequantize(values) - weight) <= step * 0.5001)


@given(weight_arrays)
def test_weight_zero_is_exact_and_zero_point_is_zero(weight: npt.NDArray[np.float32]) -> None:
    grid = choose_weight_grid(weight, 8, "max", name="w")
    assert not grid.zero_point.any()
    assert not round_to_nearest(np.zeros_like(weight), grid).any()


@pytest.mark.parametrize("method", ["max", "mse"])
def test_dead_channels_get_a_scale_of_the_living(method: WeightMethod) -> None:
    weight = np.array([[0.0, 0.0], [1.27, -0.5], [0.0, 0.0]], dtype=np.float32)
    grid = choose_weight_grid(weight, 8, method, name="w")
    assert np.all(grid.scale == grid.scale[1])
    np.testing.assert_array_equal(round_to_nearest(weight, grid)[[0, 2]], 0)


def test_all_zero_weights_get_scale_one() -> None:
    grid = choose_weight_grid(np.zeros((3, 4), dtype=np.float32), 8, "max", name="w")
    np.testing.assert_array_equal(grid.scale, 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(bad: float) -> None:
    weight = np.array([[1.0, bad]], dtype=np.float32)
    with pytest.raises(QuantizationError, match=r"features\.0\.weight.*(nan|inf)"):
        choose_weight_grid(weight, 8, "max", name="features.0.weight")


@pytest.mark.parametrize("num_bits", [4, 6, 8])
def test_mse_grid_has_no_more_error_than_max_grid(num_bits: int) -> None:
    weight = np.random.default_rng(0).laplace(size=(16, 8, 3, 3)).astype(np.float32)

    def errors(method: WeightMethod) -> npt.NDArray[np.float64]:
        grid = choose_weight_grid(weight, num_bits, method, name="w")
        return ((grid.dequantize(round_to_nearest(weight, grid)) - weight) ** 2).sum(axis=(1, 2, 3))

    assert np.all(errors("mse") <= errors("max") * (1 + 1e-5))
    if num_bits == 4:
        assert errors("mse").sum() < 0.95 * errors("max").sum()


@given(
    st.floats(1e-12, 1e3),
    st.floats(-100, 100),
    st.floats(1e-6, 10.0),
    st.floats(1e-6, 10.0),
)
def test_guarded_bias_fits_and_stays_exact(
    weight_scale: float, bias: float, input_scale: float, output_scale: float
) -> None:
    grid = QuantParams(
        scale=np.array([weight_scale], dtype=np.float32), zero_point=np.zeros(1, dtype=np.int32), axis=0, num_bits=8
    )
    biases = np.array([bias], dtype=np.float64)
    guarded = guard_bias(grid, biases, input_scale, output_scale)
    assert guarded.scale[0] >= grid.scale[0]
    assert input_scale * float(guarded.scale[0]) / output_scale >= SMALLEST_MULTIPLIER * (1 - 1e-6)
    tensor = quantize_bias(biases, input_scale, guarded, name="b")
    assert tensor.values.dtype == np.int32
    assert abs(int(tensor.values[0])) <= MAX_BIAS * (1 + 1e-6)
    assert tensor.dequantize()[0] == pytest.approx(bias, abs=float(tensor.params.scale[0]) * 0.51, rel=1e-6)


def test_guard_leaves_ordinary_channels_alone() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    weight[2] *= 1e-12
    grid = choose_weight_grid(weight, 8, "max", name="w")
    guarded = guard_bias(grid, np.ones(4), 0.02, 0.05)
    np.testing.assert_array_equal(guarded.scale[[0, 1, 3]], grid.scale[[0, 1, 3]])
    assert guarded.scale[2] > grid.scale[2]
    assert not round_to_nearest(weight, guarded)[2].any()


def test_bias_that_is_not_finite_is_named() -> None:
    grid = choose_weight_grid(np.ones((1, 1), dtype=np.float32), 8, "max", name="w")
    with pytest.raises(QuantizationError, match=r"fc\.bias"):
        quantize_bias(np.array([np.nan]), 1.0, grid, name="fc.bias")


@given(hnp.arrays(np.float32, (1, 3, 1, 1), elements=st.floats(-100, 100, width=32)))
def test_operand_rounds_within_a_step(value: npt.NDArray[np.float32]) -> None:
    tensor = quantize_operand(value, name="c")
    assert tensor.values.dtype == np.int8
    assert np.all(np.abs(tensor.dequantize() - value) <= float(tensor.params.scale[0]) * 1.001)
