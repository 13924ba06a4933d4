"""What transformers are made of besides layers: GELU, layer normalization, attention. Float only.

TFLite has no operator for the last two (STABLEHLO_COMPOSITE aside, which only accelerators read). They are written in
operators that XNNPACK takes, on tensors [N, T, C] that lie in their own order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.core.graph import Node
from edgekit.export.tflite_buffer import Options
from edgekit.export.tflite_lowering import Lowering, Value
from edgekit.export.tflite_versions import Op

_SPLIT_HEADS = (0, 2, 1, 3)


def lower_gelu(lowering: Lowering, node: Node) -> None:
    """GELU, exact."""
    _require_float(lowering, node)
    x = lowering.plain(node.inputs[0])
    lowering.emit(Op.GELU, [x.index], [lowering.map_result(node.output)], schema.GeluOptionsT(approximate=False))


def lower_layer_norm(lowering: Lowering, node: Node) -> None:
    """MEAN, SUB, MUL, MEAN, ADD, RSQRT, MUL, MUL, ADD."""
    _require_float(lowering, node)
    steps = _Steps(lowering, node)
    x = lowering.plain(node.inputs[0])
    one = (*x.dims[:-1], 1)
    last = lowering.builder.add_index_constant(f"{node.name}/axis", [len(x.dims) - 1])
    epsilon, scale, shift = (
        lowering.builder.add_constant(name, np.asarray(values, np.float32))
        for name, values in (
            (f"{node.name}/epsilon", [node.float("epsilon")]),
            *((name, lowering.graph.constants[name]) for name in node.inputs[1:]),
        )
    )
    mean = steps.emit(Op.MEAN, [x.index, last], one, schema.ReducerOptionsT(keepDims=True))
    centred = steps.emit(Op.SUB, [x.index, mean.index], x.dims, schema.SubOptionsT())
    squares = steps.emit(Op.MUL, [centred.index, centred.index], x.dims, schema.MulOptionsT())
    variance = steps.emit(Op.MEAN, [squares.index, last], one, schema.ReducerOptionsT(keepDims=True))
    raised = steps.emit(Op.ADD, [variance.index, epsilon], one, schema.AddOptionsT())
    factor = steps.emit(Op.RSQRT, [raised.index], one)
    normal = steps.emit(Op.MUL, [centred.index, factor.index], x.dims, schema.MulOptionsT())
    scaled = steps.emit(Op.MUL, [normal.index, scale], x.dims, schema.MulOptionsT())
    lowering.emit(Op.ADD, [scaled.index, shift], [lowering.map_result(node.output)], schema.AddOptionsT())


def lower_attention(lowering: Lowering, node: Node) -> None:
    """MUL by the scale, heads apart by RESHAPE and TRANSPOSE, BATCH_MATMUL, SOFTMAX, BATCH_MATMUL, heads joined."""
    _require_float(lowering, node)
    steps = _Steps(lowering, node)
    query, key, value = (lowering.plain(name) for name in node.inputs)
    heads = node.int("heads")
    scale = lowering.builder.add_constant(f"{node.name}/scale", np.full(1, node.float("scale"), np.float32))
    scaled = steps.emit(Op.MUL, [query.index, scale], query.dims, schema.MulOptionsT())
    parts = [
        _apart(lowering, part, heads, f"{node.name}/{name}")
        for part, name in ((scaled, "query"), (key, "key"), (value, "value"))
    ]
    batch, _, tokens, channels = parts[0].dims
    square = (batch, heads, tokens, parts[1].dims[2])
    turned = schema.BatchMatMulOptionsT(adjX=False, adjY=True, asymmetricQuantizeInputs=False)
    plain = schema.BatchMatMulOptionsT(adjX=False, adjY=False, asymmetricQuantizeInputs=False)
    scores = steps.emit(Op.BATCH_MATMUL, [parts[0].index, parts[1].index], square, turned)
    shares = steps.emit(Op.SOFTMAX, [scores.index], square, schema.SoftmaxOptionsT(beta=1.0))
    mixed = steps.emit(Op.BATCH_MATMUL, [shares.index, parts[2].index], (batch, heads, tokens, channels), plain)
    joined = lowering.transpose(mixed, _SPLIT_HEADS, f"{node.name}/joined")
    lowering.bind(node.output, lowering.reshape(joined, query.dims, node.output))


def _apart(lowering: Lowering, x: Value, heads: int, name: str) -> Value:
    """[N, T, heads * d] -> [N, heads, T, d]."""
    batch, tokens, channels = x.dims
    split = lowering.reshape(x, (batch, tokens, heads, channels // heads), f"{name}/heads")
    return lowering.transpose(split, _SPLIT_HEADS, name)


def _require_float(lowering: Lowering, node: Node) -> None:
    if lowering.quantized is not None:
        raise lowering.unsupported(node, "it has no full-integer one; a dynamic scheme leaves it in float")


class _Steps:
    """Names and declares the tensors between a node's operators."""

    def __init__(self, lowering: Lowering, node: Node) -> None:
        self._lowering = lowering
        self._name = node.name
        self._count = 0

    def emit(self, op: Op, inputs: Sequence[int], dims: Sequence[int], options: Options = None) -> Value:
        """Append an operator that makes a tensor of its own."""
        self._count += 1
        result = self._lowering.declare(f"{self._name}/{op.name.lower()}{self._count}", dims, None)
        self._lowering.emit(op, inputs, [result], options)
        return result
