"""Local response normalization (Krizhevsky et al. 2012, section 3.3).

TFLite's own operator is for floats only. In int8 it is made of integers: squares; their sums over neighbour channels,
a 1x1 convolution with a band of ones; the power of the sum, looked up in a table of 256 entries; and the product.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.core.graph import Node
from edgekit.core.quant import QuantParams
from edgekit.export.tflite_lowering import Lowering, Value
from edgekit.export.tflite_plan import real_range
from edgekit.export.tflite_versions import Op

_STEPS = 255
_LOWEST = -128


def lower_response_norm(lowering: Lowering, node: Node) -> None:
    """LOCAL_RESPONSE_NORMALIZATION in float; in int8 MUL, CONV_2D, CAST, ADD, GATHER, MUL.

    Raises:
        UnsupportedOpError: In float, a window of an even number of channels: TFLite's has a middle.
    """
    x = lowering.plain(node.inputs[0])
    size = node.int("size")
    if x.params is not None:
        _lower_int8(lowering, node, x, x.params)
        return
    if size % 2 == 0:
        raise lowering.unsupported(node, f"a window of {size} channels, which is even")
    options = schema.LocalResponseNormalizationOptionsT(
        radius=size // 2, bias=node.float("bias"), alpha=node.float("alpha") / size, beta=node.float("beta")
    )
    lowering.emit(Op.LOCAL_RESPONSE_NORMALIZATION, [x.index], [lowering.map_result(node.output)], options)


def _lower_int8(lowering: Lowering, node: Node, x: Value, params: QuantParams) -> None:
    largest = max(map(abs, real_range(params))) ** 2
    squares = lowering.declare(f"{node.name}/squares", x.dims, _from_zero(largest))
    lowering.emit(Op.MUL, [x.index, x.index], [squares], schema.MulOptionsT())
    sums_grid = _from_zero(largest * node.int("size"))
    sums = lowering.declare(f"{node.name}/sums", x.dims, sums_grid)
    _sum_neighbours(lowering, node, squares, sums)
    factor = _look_up(lowering, node, sums, sums_grid)
    lowering.emit(Op.MUL, [x.index, factor.index], [lowering.map_result(node.output)], schema.MulOptionsT())


def _sum_neighbours(lowering: Lowering, node: Node, squares: Value, sums: Value) -> None:
    """1x1 convolution whose weights are 1 where an input channel lies in the window of an output channel."""
    channels, size = squares.dims[3], node.int("size")
    before = (size - 1) // 2
    # Row is the output channel; input channels run from `before` below it to the rest of the window above it.
    offsets = np.arange(channels)[None, :] - np.arange(channels)[:, None]
    band = ((offsets >= -before) & (offsets <= size - 1 - before)).astype(np.int8)
    weight = lowering.builder.add_constant(
        f"{node.name}/band", band.reshape(channels, 1, 1, channels), _grid(np.ones(channels, np.float32), 0)
    )
    scale = np.float32(1) if squares.params is None else squares.params.scale[0]
    bias = lowering.builder.add_constant(
        f"{node.name}/bias", np.zeros(channels, np.int32), _grid(np.full(channels, scale, np.float32), 0)
    )
    options = schema.Conv2DOptionsT(
        padding=schema.Padding.VALID, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1
    )
    lowering.emit(Op.CONV_2D, [squares.index, weight, bias], [sums], options)


def _look_up(lowering: Lowering, node: Node, sums: Value, sums_grid: QuantParams) -> Value:
    """(bias + alpha / size * sum) ** -beta of every sum that int8 can hold, by GATHER."""
    integers = np.arange(_LOWEST, _LOWEST + _STEPS + 1, dtype=np.int32)
    real = (integers - int(sums_grid.zero_point[0])) * float(sums_grid.scale[0])
    factors = (node.float("bias") + node.float("alpha") / node.int("size") * real) ** -node.float("beta")
    grid = _from_zero(float(factors.max()))
    table = lowering.builder.add_constant(f"{node.name}/table", grid.quantize(factors).astype(np.int8), grid)
    wide = _integers(lowering, f"{node.name}/wide", sums.dims)
    place = _integers(lowering, f"{node.name}/place", sums.dims)
    options = schema.CastOptionsT(inDataType=schema.TensorType.INT8, outDataType=schema.TensorType.INT32)
    lowering.emit(Op.CAST, [sums.index], [wide], options, version=1)
    offset = lowering.builder.add_index_constant(f"{node.name}/offset", -_LOWEST)
    lowering.emit(Op.ADD, [wide.index, offset], [place], schema.AddOptionsT(), version=1)
    factor = lowering.declare(f"{node.name}/factor", sums.dims, grid)
    lowering.emit(Op.GATHER, [table, place.index], [factor], schema.GatherOptionsT(axis=0))
    return factor


def _integers(lowering: Lowering, name: str, dims: tuple[int, ...]) -> Value:
    return Value(index=lowering.builder.add_activation(name, dims, np.int32), dims=dims, params=None)


def _from_zero(largest: float) -> QuantParams:
    """The int8 grid of 0 to `largest`."""
    return _grid(np.full(1, largest / _STEPS, np.float32), _LOWEST)


def _grid(scale: np.ndarray, zero_point: int) -> QuantParams:
    axis = None if scale.size == 1 else 0
    return QuantParams(scale=scale, zero_point=np.full(scale.size, zero_point, np.int32), axis=axis)
