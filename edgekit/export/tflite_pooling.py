"""Pools: MaxPool, AveragePool, GlobalAveragePool; and Pad."""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from edgekit.core.graph import Node
from edgekit.export.tflite_lowering import Lowering, Value
from edgekit.export.tflite_versions import Op
from edgekit.export.tflite_window import pad_map, slide, window_of


def lower_max_pool(lowering: Lowering, node: Node) -> None:
    """MAX_POOL_2D. Padding must never win: it is the lowest value, or zero where nothing is below that."""
    kernel = node.ints("kernel_shape")
    pad_with = "zero" if node.inputs[0] in lowering.nonnegative else "lowest"
    x, padding = slide(lowering, node, window_of(lowering, node, kernel), pad_with=pad_with)
    _pool(lowering, node, Op.MAX_POOL_2D, x, padding)


def lower_average_pool(lowering: Lowering, node: Node) -> None:
    """AVERAGE_POOL_2D, which divides by the positions inside the map; padding that counts is written out before it.

    Raises:
        UnsupportedOpError: Padding that must not count and is not TFLite's SAME.
    """
    window = window_of(lowering, node, node.ints("kernel_shape"))
    padded = any(window.pads)
    if padded and node.int("count_include_pad"):
        x = pad_map(lowering, lowering.plain(node.inputs[0]), window.pads, f"{node.name}/pad")
        _pool(lowering, node, Op.AVERAGE_POOL_2D, x, int(schema.Padding.VALID))
        return
    if window.padding is None:
        raise lowering.unsupported(node, f"pads {window.pads} that do not count, other than SAME")
    _pool(lowering, node, Op.AVERAGE_POOL_2D, lowering.plain(node.inputs[0]), window.padding)


def _pool(lowering: Lowering, node: Node, op: Op, x: Value, padding: int) -> None:
    fusion = lowering.fusion(node)
    lowering.require_same_grid(node, [node.inputs[0], fusion.output])
    kernel, strides = node.ints("kernel_shape"), node.ints("strides")
    options = schema.Pool2DOptionsT(
        padding=padding,
        strideH=strides[0],
        strideW=strides[1],
        filterHeight=kernel[0],
        filterWidth=kernel[1],
        fusedActivationFunction=fusion.activation,
    )
    lowering.emit(op, [x.index], [lowering.map_result(fusion.output)], options)


def lower_global_average_pool(lowering: Lowering, node: Node) -> None:
    """MEAN over height and width, straight to [1, C] when a Flatten follows."""
    x = lowering.plain(node.inputs[0])
    fusion = lowering.fusion(node)
    keeps_dims = fusion.output == node.output
    if not keeps_dims and lowering.quantized is not None and node.output in lowering.quantized.activations:
        lowering.require_same_grid(node, [node.output, fusion.output])
    axes = lowering.builder.add_index_constant(f"{node.name}/axes", (1, 2))
    result = lowering.map_result(fusion.output)
    lowering.emit(Op.MEAN, [x.index, axes], [result], schema.ReducerOptionsT(keepDims=keeps_dims))


def lower_pad(lowering: Lowering, node: Node) -> None:
    """PAD by zero.

    Raises:
        UnsupportedOpError: Another value, or a map that is not of rank 4.
    """
    x = lowering.plain(node.inputs[0])
    if node.float("value") != 0 or len(x.dims) != 4:
        raise lowering.unsupported(node, "only maps, and only zeros, can be padded")
    lowering.require_same_grid(node, [node.inputs[0], node.output])
    top, left, bottom, right = node.ints("pads")
    lowering.bind(node.output, pad_map(lowering, x, (top, left, bottom, right), node.output))
