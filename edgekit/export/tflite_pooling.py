"""Pools: MaxPool, AveragePool, GlobalAveragePool; and Pad."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgekit.core.graph import Node
from edgekit.core.quant import QuantParams
from edgekit.export.tflite_lowering import MAP_RANK, Lowering, Value
from edgekit.export.tflite_versions import Op
from edgekit.export.tflite_window import Window, pad_map, slide, window_of

MAX_CONVOLVED_AREA = 25
"""Largest window that a depthwise convolution averages: XNNPACK has kernels for up to 25 taps."""


def lower_max_pool(lowering: Lowering, node: Node) -> None:
    """MAX_POOL_2D. Padding must never win: it is the lowest value, or zero where nothing is below that."""
    kernel = node.ints("kernel_shape")
    pad_with = "zero" if node.inputs[0] in lowering.nonnegative else "lowest"
    x, padding = slide(lowering, node, window_of(lowering, node, kernel), pad_with=pad_with)
    _pool(lowering, node, Op.MAX_POOL_2D, x, padding)


def lower_average_pool(lowering: Lowering, node: Node) -> None:
    """AVERAGE_POOL_2D, which divides by the positions inside the map; padding that counts is written out before it.

    Padding that does not count and is not TFLite's SAME is written out as well, and made good by a MUL.

    Over the whole map it is a MEAN. In int8, which XNNPACK does not pool, small windows become a depthwise convolution
    with ones on a grid of 1 / kernel area: the same sums, 6 to 7 times as fast, and no break in the delegate.
    """
    window = window_of(lowering, node, node.ints("kernel_shape"))
    lowering.require_same_grid(node, [node.inputs[0], lowering.fusion(node).output])
    x, padding = lowering.plain(node.inputs[0]), window.padding
    counts_padding = any(window.pads) and bool(node.int("count_include_pad"))
    if window.covers_map:
        _mean(lowering, node, x, keeps_dims=True)
        return
    as_convolution = lowering.quantized is not None and (counts_padding or not any(window.pads))
    if as_convolution and window.area <= MAX_CONVOLVED_AREA:
        x, padding = slide(lowering, node, window)
        fusion = lowering.fusion(node)
        _convolve_with_ones(lowering, node, (x, lowering.map_result(fusion.output)), padding, fusion.activation)
        return
    if padding is None and not counts_padding:
        _average_inside(lowering, node, x, window)
        return
    if padding is None or counts_padding:
        x, padding = pad_map(lowering, x, window.pads, f"{node.name}/pad"), int(schema.Padding.VALID)
    _pool(lowering, node, Op.AVERAGE_POOL_2D, x, padding)


def _average_inside(lowering: Lowering, node: Node, x: Value, window: Window) -> None:
    """PAD, the mean over whole windows, and MUL by the window's area over the positions inside the map."""
    fusion = lowering.fusion(node)
    result = lowering.map_result(fusion.output)
    padded = pad_map(lowering, x, window.pads, f"{node.name}/pad")
    whole = lowering.declare(f"{node.name}/whole", result.dims, x.params)
    if lowering.quantized is not None and window.area <= MAX_CONVOLVED_AREA:
        _convolve_with_ones(lowering, node, (padded, whole), int(schema.Padding.VALID))
    else:
        options = _pool_options(node, int(schema.Padding.VALID))
        lowering.emit(Op.AVERAGE_POOL_2D, [padded.index], [whole], options)
    counts = np.outer(window.height.counts, window.width.counts)[np.newaxis, :, :, np.newaxis]
    share = _add_multiplier(lowering, f"{node.name}/share", window.area, counts)
    options = schema.MulOptionsT(fusedActivationFunction=fusion.activation)
    lowering.emit(Op.MUL, [whole.index, share], [result], options)


def _add_multiplier(lowering: Lowering, name: str, area: int, counts: npt.NDArray[np.int64]) -> int:
    """The constant area / counts; in int8 on a grid that holds every value exactly, where there is one."""
    values = area / counts
    if lowering.quantized is None:
        return lowering.builder.add_constant(name, values.astype(np.float32))
    top = np.iinfo(np.int8).max
    denominator = math.lcm(*(Fraction(area, int(count)).denominator for count in np.unique(counts)))
    step = np.float32(1 / denominator if values.max() * denominator <= top else values.max() / top)
    return lowering.builder.add_constant(name, np.rint(values / step).astype(np.int8), _grid(step))


def _convolve_with_ones(
    lowering: Lowering,
    node: Node,
    ends: tuple[Value, Value],
    padding: int,
    activation: int = int(schema.ActivationFunctionType.NONE),
) -> None:
    """DEPTHWISE_CONV_2D from the first of `ends` to the second."""
    x, result = ends
    kernel, strides = node.ints("kernel_shape"), node.ints("strides")
    channels = x.dims[3]
    step = np.float32(1 / (kernel[0] * kernel[1]))
    bias_step = step if x.params is None else step * x.params.scale[0]
    ones = lowering.builder.add_constant(f"{node.name}/ones", np.ones((1, *kernel, channels), np.int8), _grid(step))
    bias = lowering.builder.add_constant(f"{node.name}/bias", np.zeros(channels, np.int32), _grid(bias_step))
    options = schema.DepthwiseConv2DOptionsT(
        padding=padding,
        strideH=strides[0],
        strideW=strides[1],
        depthMultiplier=1,
        dilationHFactor=1,
        dilationWFactor=1,
        fusedActivationFunction=activation,
    )
    lowering.emit(Op.DEPTHWISE_CONV_2D, [x.index, ones, bias], [result], options)


def _grid(scale: np.float32) -> QuantParams:
    return QuantParams(scale=np.full(1, scale, np.float32), zero_point=np.zeros(1, np.int32))


def _pool(lowering: Lowering, node: Node, op: Op, x: Value, padding: int) -> None:
    fusion = lowering.fusion(node)
    lowering.require_same_grid(node, [node.inputs[0], fusion.output])
    options = _pool_options(node, padding, fusion.activation)
    lowering.emit(op, [x.index], [lowering.map_result(fusion.output)], options)


def _pool_options(
    node: Node, padding: int, activation: int = int(schema.ActivationFunctionType.NONE)
) -> schema.Pool2DOptionsT:
    kernel, strides = node.ints("kernel_shape"), node.ints("strides")
    return schema.Pool2DOptionsT(
        padding=padding,
        strideH=strides[0],
        strideW=strides[1],
        filterHeight=kernel[0],
        filterWidth=kernel[1],
        fusedActivationFunction=activation,
    )


def lower_global_average_pool(lowering: Lowering, node: Node) -> None:
    """MEAN over height and width, straight to [1, C] when a Flatten follows."""
    x = lowering.plain(node.inputs[0])
    fusion = lowering.fusion(node)
    keeps_dims = fusion.output == node.output
    if not keeps_dims and lowering.quantized is not None and node.output in lowering.quantized.activations:
        lowering.require_same_grid(node, [node.output, fusion.output])
    _mean(lowering, node, x, keeps_dims=keeps_dims)


def _mean(lowering: Lowering, node: Node, x: Value, *, keeps_dims: bool) -> None:
    axes = lowering.builder.add_index_constant(f"{node.name}/axes", (1, 2))
    result = lowering.map_result(lowering.fusion(node).output)
    lowering.emit(Op.MEAN, [x.index, axes], [result], schema.ReducerOptionsT(keepDims=keeps_dims))


def lower_pad(lowering: Lowering, node: Node) -> None:
    """PAD by zero, a map or tokens.

    Raises:
        UnsupportedOpError: Another value.
    """
    x = lowering.plain(node.inputs[0])
    if node.float("value") != 0:
        raise lowering.unsupported(node, "only zeros can be padded")
    lowering.require_same_grid(node, [node.inputs[0], node.output])
    top, left, bottom, right = node.ints("pads")
    if len(x.dims) != MAP_RANK:
        padded = lowering.map_result(node.output)
        amounts = np.array([[0, 0], [top, bottom], [left, right]], np.int32)
        paddings = lowering.builder.add_index_constant(f"{node.output}/paddings", amounts)
        lowering.emit(Op.PAD, [x.index, paddings], [padded], schema.PadOptionsT())
        return
    lowering.bind(node.output, pad_map(lowering, x, (top, left, bottom, right), node.output))
