"""Grids of weights and biases.

Weights are symmetric per output channel on -qmax..qmax, stored in int8 (TFLite's quantization specification: no
zero-point, -128 unused). Biases are int32 on the grid of the products, `input scale * weight scale[c]`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import QuantizationError
from edgekit.core.quant import QuantParams, QuantTensor
from edgekit.quantize.limits import MAX_BIAS, SMALLEST_MULTIPLIER
from edgekit.quantize.ranges import SMALLEST_SCALE, grid_of_range

WeightMethod: TypeAlias = Literal["max", "mse"]

_SHARES = np.linspace(1.0, 0.3, 57)
"""Shares of a channel's maximum that the MSE search tries as the end of its grid."""


def require_finite(value: npt.NDArray[np.floating], name: str) -> None:
    """Refuse a constant that holds no number, or none that is finite.

    Raises:
        QuantizationError: Empty, NaN or infinite; names the constant.
    """
    if value.size == 0:
        raise QuantizationError(f"constant {name}: expected values, got shape {list(value.shape)}")
    finite = np.isfinite(value)
    if not finite.all():
        raise QuantizationError(
            f"constant {name}: expected finite values, got {value[~finite].flat[0]}",
            hint="the checkpoint is damaged, or its training diverged",
        )


def choose_weight_grid(
    weight: npt.NDArray[np.floating], num_bits: int, method: WeightMethod, *, name: str
) -> QuantParams:
    """The per_channel grid of a weight tensor, channels along axis 0.

    A channel of zeros gets the largest scale of the others (1 if all are zero): any scale holds zeros, and this one
    keeps the layer's multipliers in one region.

    Args:
        weight: Float weights, [channels, ...].
        num_bits: Grid bits, 2 to 8.
        method: "max": the largest magnitude is the last level. "mse": the end of least squared error.
        name: Of the tensor, for messages.

    Raises:
        QuantizationError: The weights are empty or not finite.
    """
    require_finite(weight, name)
    rows = weight.reshape(weight.shape[0], -1)
    qmax = (1 << (num_bits - 1)) - 1
    ends = np.maximum(rows.max(axis=1), -rows.min(axis=1)).astype(np.float64)
    if method == "mse":
        ends = ends * _best_shares(rows.astype(np.float64), ends, qmax)
    scale = ends / qmax
    alive = scale > 0
    scale = np.where(alive, scale, scale.max() if alive.any() else 1.0)
    scale = np.maximum(scale, SMALLEST_SCALE)
    return QuantParams(
        scale=scale.astype(np.float32), zero_point=np.zeros(scale.size, dtype=np.int32), axis=0, num_bits=num_bits
    )


def with_one_scale(grid: QuantParams) -> QuantParams:
    """The grid with its largest scale in every channel: weights that are shared by a layer then share integers, too."""
    return msgspec.structs.replace(grid, scale=np.full_like(grid.scale, grid.scale.max()))


def guard_bias(
    grid: QuantParams, bias: npt.NDArray[np.floating] | None, input_scale: float, output_scale: float
) -> QuantParams:
    """Raise the weight scale of channels so tiny that their bias would overflow int32.

    A channel whose weights are near zero (a dead one whose BatchNorm was folded) has a tiny scale, and its bias in
    units of `input scale * weight scale` a huge count. A coarser weight grid costs nothing there: the products are
    rounded by at most 2**-30 of the bias each. The same guard keeps the multiplier of the requantization within what
    kernels take (`SMALLEST_MULTIPLIER`).

    Args:
        grid: Weight grid, per_channel.
        bias: Float bias [channels], or None.
        input_scale: Scale of the layer's input.
        output_scale: Scale of the layer's output.
    """
    least = np.full(grid.scale.shape, SMALLEST_MULTIPLIER * output_scale / input_scale)
    if bias is not None:
        least = np.maximum(least, np.abs(bias.astype(np.float64)) / (input_scale * MAX_BIAS))
    scale = np.maximum(grid.scale, np.nextafter(least.astype(np.float32), np.float32(np.inf)))
    return QuantParams(scale=scale, zero_point=grid.zero_point, axis=grid.axis, num_bits=grid.num_bits)


def round_to_nearest(weight: npt.NDArray[np.floating], grid: QuantParams) -> npt.NDArray[np.int8]:
    """Integers of a weight tensor by rounding each weight on its own, kept to -qmax..qmax."""
    return grid.quantize(weight, narrow=True).astype(np.int8)


def quantize_bias(
    bias: npt.NDArray[np.floating], input_scale: float, weight_grid: QuantParams, *, name: str
) -> QuantTensor:
    """The int32 bias on the grid of the products.

    Raises:
        QuantizationError: Not finite.
    """
    require_finite(bias, name)
    scale = (np.float32(input_scale) * weight_grid.scale).astype(np.float32)
    limit = np.iinfo(np.int32).max
    values = np.clip(np.rint(bias.astype(np.float64) / scale.astype(np.float64)), -limit, limit).astype(np.int32)
    return QuantTensor(
        values=values,
        params=QuantParams(scale=scale, zero_point=np.zeros(scale.size, dtype=np.int32), axis=0, num_bits=32),
    )


def quantize_operand(value: npt.NDArray[np.floating], *, name: str) -> QuantTensor:
    """A constant operand of Add or Mul: int8, per_tensor, asymmetric, spanning its values and zero.

    Raises:
        QuantizationError: Not finite.
    """
    require_finite(value, name)
    grid = grid_of_range(float(value.min()), float(value.max()))
    return QuantTensor(values=grid.quantize(value).astype(np.int8), params=grid)


def _best_shares(rows: npt.NDArray[np.float64], ends: npt.NDArray[np.float64], qmax: int) -> npt.NDArray[np.float64]:
    """Share of each row's maximum at which its grid has the least squared error."""
    best_share = np.ones_like(ends)
    best_error = np.full_like(ends, np.inf)
    for share in _SHARES:
        scale = np.where(ends > 0, ends * share / qmax, 1.0)[:, None]
        error = ((np.clip(np.rint(rows / scale), -qmax, qmax) * scale - rows) ** 2).sum(axis=1)
        better = error < best_error
        best_share[better] = share
        best_error[better] = error[better]
    return best_share
