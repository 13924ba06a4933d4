"""Grids whose steps are learned together with the weights.

LSQ (Esser et al. 2020, arXiv:1902.08153) and, for activations of both signs, LSQ+ (Bhalgat et al. 2020,
arXiv:2004.09576), which learns the offset, too.

Between its ends a grid passes gradients as if it did not round; beyond them it passes none. The step gets
`round(x / s) - x / s` between the ends and the level of the end beyond them (Esser et al., eq. 3), scaled by
`1 / sqrt(n * qmax)` (section 2.2) so that it moves in proportion as the weights do. What is learned is the *ratio* of a
step to the one that it started with: plain gradient descent with the gradient rescaled accordingly takes exactly the
steps of the paper, and AdamW, whose steps do not depend on the size of the gradient, takes steps in proportion.

Zero is always on the grid: weights have no zero-point, and the one of an activation is rounded to an integer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.core.quant import QuantParams
from edgekit.quantize.network import FixedGrid

SMALLEST_RATIO = 2.0**-6
"""A step does not shrink below this share of the one it started with: at zero nothing could be computed."""
_OFFSET_UNIT = 256.0
"""Offsets are learned in units of the grid's whole length, as steps are in units of the first one."""


class OnGrid(torch.autograd.Function):
    """Values on a grid: `(clamp(round(x / scale + zero_point), lowest, highest) - zero_point) * scale`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor | None, ends: tuple[int, int]) -> Tensor:  # noqa: ANN401 - torch's own type
        """Real values in the shape of x.

        Args:
            ctx: Of torch.
            x: Real values.
            scale: One element, or one per channel in a shape that broadcasts along x.
            zero_point: Integer, one element; None for 0.
            ends: Lowest and highest level.
        """
        values = x / scale
        if zero_point is not None:
            values += zero_point
        values.round_().clamp_(*ends)
        if zero_point is not None:
            values -= zero_point
        values *= scale
        ctx.save_for_backward(x, values, scale, zero_point)
        ctx.ends = ends
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:  # noqa: ANN401
        """Gradients of x, scale and zero-point."""
        (gradient,) = gradients
        x, values, scale, zero_point = ctx.saved_tensors
        shift = 0.0 if zero_point is None else zero_point
        lowest, highest = ((end - shift) * scale for end in ctx.ends)
        passed = gradient * ((x >= lowest) & (x <= highest))
        # Beyond the ends the level itself, between them what rounding added; both times the scale.
        of_scale = torch.addcmul(gradient * values, passed, x, value=-1).sum_to_size(scale.shape) / scale
        of_zero_point = None
        if zero_point is not None and ctx.needs_input_grad[2]:
            of_zero_point = ((passed.sum() - gradient.sum()) * scale).reshape(zero_point.shape)
        return passed, of_scale, of_zero_point, None


class LearnedWeightGrid(nn.Module):
    """Puts a layer's weights on symmetric levels -qmax..qmax with a learned step.

    There is one step per output channel; one for the whole layer where the grid has the same in all of them, so that
    values which channels share stay shared.

    Args:
        grid: Where training starts: per_channel along axis 0, zero-point 0.
        num_weights: Weights per channel.

    Attributes:
        ratio: Learned; step / first step, [channels] or [1].
    """

    start: Tensor

    def __init__(self, grid: QuantParams, num_weights: int) -> None:
        super().__init__()
        scale = torch.from_numpy(np.array(grid.scale, np.float32))
        has_one = len(scale) > 1 and bool((scale == scale[0]).all())
        self.register_buffer("start", scale)
        self.ratio = nn.Parameter(torch.ones(1 if has_one else len(scale)))
        self.num_bits, self.qmax = grid.num_bits, grid.qmax
        count = num_weights * (len(scale) if has_one else 1)
        self._gain = 1.0 / math.sqrt(count * self.qmax)

    def scale(self) -> Tensor:
        """Steps, float32 [channels]."""
        factor = self._gain / self.start.float() ** 2
        return self.start.float() * _with_gradient(_bounded(self.ratio).expand_as(self.start), factor)

    @torch.no_grad()
    def levels(self, weight: Tensor) -> Tensor:
        """Integers that weights round to, in weight's type and shape."""
        return torch.clamp(torch.round(weight / self._along(weight)), -self.qmax, self.qmax)

    def forward(self, weight: Tensor) -> Tensor:
        """Weights on their grid."""
        return OnGrid.apply(weight, self._along(weight), None, (-self.qmax, self.qmax))  # pyright: ignore[reportReturnType]

    def read_grid(self) -> QuantParams:
        """The grid as it is now."""
        scale = self.scale().detach().cpu().numpy()
        zeros = np.zeros(len(scale), np.int32)
        return QuantParams(scale=scale, zero_point=zeros, axis=0, num_bits=self.num_bits)

    def _along(self, weight: Tensor) -> Tensor:
        return self.scale().to(weight).reshape(-1, *[1] * (weight.ndim - 1))


class LearnedGrid(nn.Module):
    """Puts an activation on a grid with a learned step, and a learned zero-point where values have both signs.

    A grid that starts with its zero at an end holds values of one sign (those of a Relu), and its zero stays there.

    Args:
        grid: Where training starts, per_tensor.
        num_values: Values per picture.

    Attributes:
        ratio: Learned; step / first step, [1].
        offset: Learned; what the zero-point moved, in units of 256 levels, [1]; None where it stays.
    """

    start: Tensor
    start_zero_point: Tensor

    def __init__(self, grid: QuantParams, num_values: int) -> None:
        super().__init__()
        self.register_buffer("start", torch.from_numpy(np.array(grid.scale, np.float32)))
        self.register_buffer("start_zero_point", torch.from_numpy(np.array(grid.zero_point, np.float32)))
        self.lowest, self.highest, self.num_bits = grid.qmin, grid.qmax, grid.num_bits
        zero = int(grid.zero_point[0])
        self.ratio = nn.Parameter(torch.ones(1))
        self.offset = nn.Parameter(torch.zeros(1)) if self.lowest < zero < self.highest else None
        self._gain = 1.0 / math.sqrt(num_values * max(self.highest - zero, zero - self.lowest))

    def scale(self) -> Tensor:
        """Step, float32 [1]."""
        return self.start.float() * _with_gradient(_bounded(self.ratio), self._gain / self.start.float() ** 2)

    def zero_point(self) -> Tensor:
        """Integer on the grid, float32 [1]; its gradient is that of the unrounded one."""
        if self.offset is None:
            return self.start_zero_point.float()
        factor = self._gain / (self.start.float() * _OFFSET_UNIT) ** 2
        wanted = self.start_zero_point.float() + _OFFSET_UNIT * _with_gradient(self.offset.float(), factor)
        return torch.clamp(_rounded(wanted), self.lowest, self.highest)

    def forward(self, x: Tensor) -> Tensor:
        """Real values on the grid, in the shape of x."""
        return OnGrid.apply(x, self.scale().to(x), self.zero_point().to(x), (self.lowest, self.highest))  # pyright: ignore[reportReturnType]

    def read_grid(self) -> QuantParams:
        """The grid as it is now."""
        zero_point = self.zero_point().detach().cpu().numpy().astype(np.int32)
        return QuantParams(scale=self.scale().detach().cpu().numpy(), zero_point=zero_point, num_bits=self.num_bits)


class BiasGrid(nn.Module):
    """Puts a layer's bias on the grid of its products, input step * weight step, as int32 accumulators hold it.

    With few bits per weight that grid is coarse: half of it may be a quarter of a step of the layer's result.

    Args:
        input_grid: Of the layer's input.
        weight_grid: Of its weights.
    """

    def __init__(self, input_grid: FixedGrid | LearnedGrid, weight_grid: LearnedWeightGrid) -> None:
        super().__init__()
        self._grids = (input_grid, weight_grid)  # in a tuple, because they belong to the network already

    def forward(self, bias: Tensor) -> Tensor:
        """The bias on its grid, [channels]; gradients pass as they are."""
        with torch.no_grad():
            inputs, products = self._grids
            step = inputs.scale if isinstance(inputs, FixedGrid) else inputs.scale()
            scale = (step.float() * products.scale()).to(bias)
        return bias + (torch.round(bias / scale) * scale - bias).detach()


class _Rounded(torch.autograd.Function):
    """The nearest integer; its gradient passes as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - torch's own type
        del ctx
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        del ctx
        return gradients[0]


def _rounded(x: Tensor) -> Tensor:
    return _Rounded.apply(x)  # pyright: ignore[reportReturnType]


def _with_gradient(x: Tensor, factor: Tensor) -> Tensor:
    """The same values, whose gradient is multiplied by a factor."""
    return x.detach() + (x - x.detach()) * factor


def _bounded(ratio: Tensor) -> Tensor:
    return torch.clamp(ratio.float(), min=SMALLEST_RATIO)
