"""Operators that move values and compute none: Concat, Split, Slice, ChannelShuffle, Flatten, Reshape, Transpose."""

from __future__ import annotations

import msgspec
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.core.graph import Node
from edgekit.export.tflite_lowering import (
    MAP_RANK,
    NCHW_TO_NHWC,
    Lowering,
    Value,
    stored_axis,
    stored_dims,
)
from edgekit.export.tflite_versions import Op, high_rank_version

MAX_CONCATENATED = 4
"""Inputs of one CONCATENATION that XNNPACK takes in every version (5 in recent ones)."""


def lower_concat(lowering: Lowering, node: Node) -> None:
    """CONCATENATION; of many inputs in steps, the smallest neighbours first, so that XNNPACK takes every step."""
    lowering.require_same_grid(node, [*node.inputs, node.output])
    values = [lowering.plain(name) for name in node.inputs]
    axis = stored_axis(node.int("axis"), len(values[0].dims))
    step = 0
    while len(values) > MAX_CONCATENATED:
        count = min(MAX_CONCATENATED, len(values) - MAX_CONCATENATED + 1)
        sizes = [sum(value.dims[axis] for value in values[i : i + count]) for i in range(len(values) - count + 1)]
        start = sizes.index(min(sizes))
        dims = list(values[0].dims)
        dims[axis] = sizes[start]
        joined = lowering.declare(f"{node.name}/joined{step}", dims, values[0].params)
        _concatenate(lowering, values[start : start + count], joined, axis)
        values[start : start + count] = [joined]
        step += 1
    _concatenate(lowering, values, lowering.map_result(node.output), axis)


def _concatenate(lowering: Lowering, values: list[Value], result: Value, axis: int) -> None:
    indices = [value.index for value in values]
    lowering.emit(Op.CONCATENATION, indices, [result], schema.ConcatenationOptionsT(axis=axis))


def lower_split(lowering: Lowering, node: Node) -> None:
    """SPLIT into equal parts, otherwise one SLICE per part."""
    lowering.require_same_grid(node, [node.inputs[0], *node.outputs])
    x = lowering.plain(node.inputs[0])
    axis = stored_axis(node.int("axis"), len(x.dims))
    sizes = node.ints("split")
    if len(set(sizes)) == 1:
        parts = [lowering.map_result(name) for name in node.outputs]
        index = lowering.builder.add_index_constant(f"{node.name}/axis", axis)
        lowering.emit(Op.SPLIT, [index, x.index], parts, schema.SplitOptionsT(numSplits=len(parts)))
        return
    starts = np.cumsum([0, *sizes[:-1]])
    for name, start in zip(node.outputs, starts, strict=True):
        _cut(lowering, x, axis, int(start), name)


def lower_slice(lowering: Lowering, node: Node) -> None:
    """SLICE along one axis."""
    lowering.require_same_grid(node, [node.inputs[0], node.output])
    x = lowering.plain(node.inputs[0])
    axis = stored_axis(node.int("axis"), len(x.dims))
    start = node.int("start")
    _cut(lowering, x, axis, start + x.dims[axis] if start < 0 else start, node.output)


def _cut(lowering: Lowering, x: Value, axis: int, start: int, name: str) -> None:
    result = lowering.map_result(name)
    begin = np.zeros(len(x.dims), np.int32)
    begin[axis] = start
    corner = lowering.builder.add_index_constant(f"{name}/begin", begin)
    size = lowering.builder.add_index_constant(f"{name}/size", result.dims)
    version = high_rank_version(Op.SLICE, len(x.dims))
    lowering.emit(Op.SLICE, [x.index, corner, size], [result], schema.SliceOptionsT(), version=version)


def lower_channel_shuffle(lowering: Lowering, node: Node) -> None:
    """ChannelShuffle as RESHAPE, one TRANSPOSE, RESHAPE (docs/decisions/0003-channel-shuffle-in-tflite.md).

    Where a Concat has just joined the groups, they are stacked as rows instead, so that the TRANSPOSE turns
    [groups, everything] in large tiles rather than one small matrix per pixel.
    """
    stack = lowering.plan.stacks.get(node.name)
    lowering.require_same_grid(node, [*(stack or node.inputs), node.output])
    groups = node.int("groups")
    batch, height, width, channels = stored_dims(lowering.graph.shapes[node.output])
    if stack is None:
        x, perm = lowering.plain(node.inputs[0]), (0, 1, 3, 2)
        dims: tuple[int, ...] = (batch, height * width, groups, channels // groups)
    else:
        x, perm = _stack_rows(lowering, node, stack), (0, 2, 1)
        dims = (batch, groups, height * width * channels // groups)
    grouped = lowering.reshape(x, dims, f"{node.name}/grouped")
    swapped = lowering.transpose(grouped, perm, f"{node.name}/swapped")
    _finish(lowering, node, swapped, (batch, height, width, channels))


def _stack_rows(lowering: Lowering, node: Node, names: tuple[str, ...]) -> Value:
    """Maps of one shape under each other: [N, H, W, C] each -> [N, len(names) * H, W, C]."""
    values = [lowering.plain(name) for name in names]
    batch, height, width, channels = values[0].dims
    stacked = lowering.declare(f"{node.name}/stacked", (batch, len(values) * height, width, channels), values[0].params)
    _concatenate(lowering, values, stacked, 1)
    return stacked


def lower_flatten(lowering: Lowering, node: Node) -> None:
    """Nothing is written: the flattening stays pending until it is known who reads it."""
    lowering.require_same_grid(node, [node.inputs[0], node.output])
    x = lowering.plain(node.inputs[0])
    if len(x.dims) == MAP_RANK:
        lowering.bind(node.output, msgspec.structs.replace(x, flat=True))
    else:
        _finish(lowering, node, x, lowering.graph.shapes[node.output])


def lower_reshape(lowering: Lowering, node: Node) -> None:
    """RESHAPE in NCHW order, with a TRANSPOSE where the order matters; to [1, rest] it is a Flatten.

    Of a map to tokens it is one RESHAPE in NHWC order, the Transpose behind it included.
    """
    shape = lowering.graph.shapes[node.output]
    tokens = lowering.fusion(node).output
    if tokens != node.output:
        _finish_as(lowering, tokens, lowering.plain(node.inputs[0]))
        return
    if len(shape) == 2:
        lower_flatten(lowering, node)
        return
    lowering.require_same_grid(node, [node.inputs[0], node.output])
    x = _in_hub_order(lowering, node)
    if len(shape) == MAP_RANK:
        x = lowering.reshape(x, shape, f"{node.name}/nchw")
        lowering.bind(node.output, lowering.transpose(x, NCHW_TO_NHWC, node.output))
    else:
        _finish(lowering, node, x, shape)


def lower_transpose(lowering: Lowering, node: Node) -> None:
    """TRANSPOSE, its permutation rewritten for the stored layout."""
    lowering.require_same_grid(node, [node.inputs[0], node.output])
    x = lowering.plain(node.inputs[0])
    perm = node.ints("perm")
    if len(perm) == MAP_RANK:
        perm = tuple(stored_axis(perm[axis], MAP_RANK) for axis in NCHW_TO_NHWC)
    lowering.bind(node.output, lowering.transpose(x, perm, node.output))


def _in_hub_order(lowering: Lowering, node: Node) -> Value:
    x = lowering.plain(node.inputs[0])
    return lowering.transpose_map(x, f"{node.name}/input") if len(x.dims) == MAP_RANK else x


def _finish_as(lowering: Lowering, name: str, x: Value) -> None:
    lowering.bind(name, lowering.reshape(x, lowering.graph.shapes[name], name))


def _finish(lowering: Lowering, node: Node, x: Value, dims: tuple[int, ...]) -> None:
    lowering.bind(node.output, lowering.reshape(x, dims, node.output))
