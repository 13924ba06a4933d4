from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgekit.core.quant import QuantParams
from edgekit.quantize.lsq import SMALLEST_RATIO, LearnedGrid, LearnedWeightGrid, OnGrid
from edgekit.quantize.ranges import grid_of_range


def _weight_grid(scale: list[float], num_bits: int = 4) -> QuantParams:
    zeros = np.zeros(len(scale), np.int32)
    return QuantParams(scale=np.array(scale, np.float32), zero_point=zeros, axis=0, num_bits=num_bits)


def _smooth(x: Tensor, scale: Tensor, zero_point: Tensor, residue: Tensor, ends: tuple[int, int]) -> Tensor:
    """The function whose derivative the straight-through estimator takes: what rounding added is a constant."""
    inside = x / scale + zero_point
    held = torch.clamp(inside, *ends)
    return (held + torch.where(inside == held, residue, 0.0) - zero_point) * scale


def test_gradients_are_the_differences_of_the_function_with_its_rounding_held() -> None:
    torch.manual_seed(0)
    x = (torch.randn(200) * 3).double().requires_grad_()
    scale = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    zero_point = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    ends = (-7, 7)
    weights = torch.randn(200).double()
    (OnGrid.apply(x, scale, zero_point, ends) * weights).sum().backward()  # pyright: ignore[reportOperatorIssue]
    position = (x / scale + zero_point).detach()
    residue = torch.round(position) - position

    def loss(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        return (_smooth(x, scale, zero_point, residue, ends) * weights).sum()

    step = 1e-6
    for index, variable in enumerate((x, scale, zero_point)):
        for element in range(min(variable.numel(), 25)):
            arguments = [each.detach().clone() for each in (x, scale, zero_point)]
            arguments[index][element] += step
            above = loss(*arguments)
            arguments[index][element] -= 2 * step
            difference = (above - loss(*arguments)) / (2 * step)
            assert variable.grad is not None
            assert float(variable.grad[element]) == pytest.approx(float(difference), abs=1e-5)


def test_gradient_of_a_step_is_the_level_beyond_the_ends_and_the_rounding_between() -> None:
    scale = torch.tensor([0.5], requires_grad=True)
    for value, expected in ((9.0, 7.0), (-9.0, -7.0), (0.8, 2.0 - 1.6), (0.6, 1.0 - 1.2)):
        scale.grad = None
        OnGrid.apply(torch.tensor([value]), scale, None, (-7, 7)).sum().backward()  # pyright: ignore[reportAttributeAccessIssue]
        assert scale.grad is not None
        assert float(scale.grad) == pytest.approx(expected, abs=1e-5)


def test_channels_get_gradients_of_their_own() -> None:
    weight = torch.tensor([[9.0, 0.8], [0.0, -9.0]])
    grid = LearnedWeightGrid(_weight_grid([0.5, 0.25]), num_weights=2)
    grid(weight).sum().backward()
    assert grid.ratio.grad is not None
    gain = 1 / math.sqrt(2 * 7)
    expected = [gain * (7 + 0.4) / 0.5, gain * -7 / 0.25]
    assert grid.ratio.grad.tolist() == pytest.approx(expected, rel=1e-4)


def test_plain_descent_moves_a_step_as_in_the_paper() -> None:
    """s <- s - rate * gradient / sqrt(n * qmax) (Esser et al. 2020, section 2.2), whatever s began with."""
    weight = torch.randn(16, generator=torch.Generator().manual_seed(1)).reshape(1, 16)
    grid = LearnedWeightGrid(_weight_grid([0.2]), num_weights=16)
    (grid(weight) ** 2).sum().backward()
    direct = torch.tensor([[0.2]], requires_grad=True)
    (OnGrid.apply(weight, direct, None, (-7, 7)) ** 2).sum().backward()  # pyright: ignore[reportOperatorIssue]
    assert grid.ratio.grad is not None
    assert direct.grad is not None
    moved = 0.2 * (1 - 0.01 * float(grid.ratio.grad))
    assert moved == pytest.approx(0.2 - 0.01 * float(direct.grad) / math.sqrt(16 * 7), rel=1e-5)


def test_a_layer_of_one_step_learns_one() -> None:
    grid = LearnedWeightGrid(_weight_grid([0.5, 0.5, 0.5]), num_weights=4)
    assert grid.ratio.shape == (1,)
    grid.ratio.data.fill_(1.5)
    assert grid.read_grid().scale.tolist() == [0.75, 0.75, 0.75]


@given(
    st.floats(-8, 0),
    st.floats(0.1, 8),
    st.floats(0.05, 4),
    st.floats(-1, 1),
    st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20),
)
def test_zero_stays_on_the_grid(
    lowest: float, highest: float, ratio: float, offset: float, values: list[float]
) -> None:
    grid = LearnedGrid(grid_of_range(lowest, highest), num_values=10)
    grid.ratio.data.fill_(ratio)
    if grid.offset is not None:
        grid.offset.data.fill_(offset)
    params = grid.read_grid()
    assert -128 <= int(params.zero_point[0]) <= 127
    with torch.no_grad():
        found = grid(torch.tensor([0.0, *values])).numpy()
    assert found[0] == 0.0
    levels = found / params.scale[0] + params.zero_point[0]
    assert np.abs(levels - np.rint(levels)).max() < 1e-3
    assert levels.min() > -128.5
    assert levels.max() < 127.5


def test_zero_at_an_end_stays_there() -> None:
    assert LearnedGrid(grid_of_range(0.0, 6.0), num_values=10).offset is None


def test_offset_learns_where_values_are_cut_off() -> None:
    grid = LearnedGrid(grid_of_range(-1.0, 3.0), num_values=4)
    grid(torch.tensor([-3.0, 9.0, 9.0, 0.5])).sum().backward()
    assert grid.offset is not None
    assert grid.offset.grad is not None
    assert float(grid.offset.grad) < 0  # three values are cut off; each rises as the zero-point falls


def test_read_grid_is_what_the_network_computes_with() -> None:
    torch.manual_seed(3)
    x = torch.randn(500)
    grid = LearnedGrid(grid_of_range(-2.0, 3.0), num_values=500)
    grid.ratio.data.fill_(0.9137)
    grid.offset.data.fill_(0.0432)  # pyright: ignore[reportOptionalMemberAccess]
    params = grid.read_grid()
    with torch.no_grad():
        assert np.array_equal(grid(x).numpy(), params.dequantize(params.quantize(x.numpy())))


def test_levels_are_what_the_layer_multiplies_with() -> None:
    weight = torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(4))
    grid = LearnedWeightGrid(_weight_grid([0.3, 0.1, 0.2, 0.4, 0.25, 0.15]), num_weights=27)
    grid.ratio.data.uniform_(0.7, 1.3, generator=torch.Generator().manual_seed(5))
    levels = grid.levels(weight).detach().numpy().astype(np.int8)
    assert np.abs(levels).max() == 7
    with torch.no_grad():
        assert np.array_equal(grid(weight).numpy(), grid.read_grid().dequantize(levels))


def test_a_step_cannot_vanish() -> None:
    grid = LearnedWeightGrid(_weight_grid([0.5]), num_weights=4)
    grid.ratio.data.fill_(-3.0)
    assert grid.read_grid().scale.tolist() == [0.5 * SMALLEST_RATIO]
