"""Dynamic quantization: weights become integers, and activations do inside the kernels, on the range they then have.

No pictures are needed, and operators between the layers stay in float: what transformers need, whose layer
normalization, softmax and GELU have no integer form here. The arithmetic of one layer is Jacob et al. 2018, eq. 2, with
the input's scale and zero-point from its own smallest and largest value.

The two formats cut the input differently: ONNX (`DynamicQuantizeLinear`) has one grid for a whole picture's tokens,
XNNPACK one for each token. `run_dynamic` computes either, for tests and for users without a runtime.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import UsageError
from edgekit.core.graph import WEIGHTED_OPS, Graph, Node
from edgekit.core.quant import QuantizedGraph, QuantParams, QuantTensor
from edgekit.core.recipe import QuantizeSection
from edgekit.quantize import execute, weights
from edgekit.quantize.schemes import parse_scheme, require_supported

Span: TypeAlias = Literal["tensor", "token"]
"""What shares a grid: all values of a layer's input ("tensor"), or those of one token, vector or picture ("token")."""

_LEVELS = 255


def quantize_dynamic(graph: Graph, config: QuantizeSection, *, one_scale: Collection[str] = ()) -> QuantizedGraph:
    """Put the weights of every Conv and Gemm on a per_channel grid, and leave the rest as it is.

    Args:
        graph: Canonical float graph.
        config: Scheme, reduced range. Below 8 bits, scales are those of least squared error.
        one_scale: Layers (node names) with one scale for all channels.

    Raises:
        UsageError: The scheme is none that is implemented, or no dynamic one.
        QuantizationError: A weight is not finite; names it.
    """
    scheme = parse_scheme(config.scheme)
    require_supported(scheme)
    if scheme.mode != "dynamic":
        raise UsageError(f"scheme {scheme.id} is not dynamic", hint="for example dynamic_wi8_ai8")
    num_bits = min(scheme.weight_bits, 7) if config.reduce_range else scheme.weight_bits
    constants: dict[str, QuantTensor] = {}
    for node in graph.nodes:
        if node.op not in WEIGHTED_OPS or node.inputs[1] in constants:
            continue
        name = node.inputs[1]
        weight = np.asarray(graph.constants[name], np.float32)
        grid = weights.choose_weight_grid(weight, num_bits, "max" if num_bits == 8 else "mse", name=name)
        grid = weights.with_one_scale(grid) if node.name in one_scale else grid
        constants[name] = QuantTensor(values=weights.round_to_nearest(weight, grid), params=grid)
    return QuantizedGraph(graph=graph, scheme=scheme.id, activations={}, constants=constants)


def run_dynamic(model: QuantizedGraph, x: npt.NDArray[np.floating], span: Span) -> dict[str, npt.NDArray[np.float32]]:
    """Every activation of the graph, by name.

    Args:
        model: From `quantize_dynamic`.
        x: Input, float32 [n, ...].
        span: Which values of a layer's input share a grid.

    Raises:
        GraphError: The input's shape does not fit.
    """
    graph = model.graph
    values = {graph.input: execute.check_input(graph, np.asarray(x, np.float32))}
    for node in graph.nodes:
        inputs = [
            values[name] if name in values else np.asarray(graph.constants[name], np.float32) for name in node.inputs
        ]
        if node.op in WEIGHTED_OPS and node.inputs[1] in model.constants:
            results: tuple[npt.NDArray[np.floating], ...] = (
                _layer(node, inputs, model.constants[node.inputs[1]], span),
            )
        else:
            results = execute.run_node(node, inputs)
        for name, value in zip(node.outputs, results, strict=True):
            values[name] = np.asarray(value, np.float32)
    return values


def dynamic_grid(x: npt.NDArray[np.floating], axes: tuple[int, ...]) -> tuple[npt.NDArray, npt.NDArray]:
    """Scale and zero-point (on 0..255) that span the values and zero, as ONNX's DynamicQuantizeLinear has them.

    Args:
        x: Values.
        axes: Axes over which values share a grid; they are kept, of length 1.
    """
    low = np.minimum(x.min(axis=axes, keepdims=True), 0).astype(np.float32)
    high = np.maximum(x.max(axis=axes, keepdims=True), 0).astype(np.float32)
    scale = ((high - low) / np.float32(_LEVELS)).astype(np.float32)
    scale = np.where(scale == 0, np.float32(1), scale)
    return scale, np.clip(np.rint(-low / scale), 0, _LEVELS)


def _layer(
    node: Node, inputs: list[npt.NDArray[np.float32]], weight: QuantTensor, span: Span
) -> npt.NDArray[np.floating]:
    """Sums of integer products, exact in float64, taken back to real values."""
    x = inputs[0]
    axes = tuple(range(1, x.ndim)) if node.op == "Conv" else (x.ndim - 1,)
    scale, zero_point = dynamic_grid(x, tuple(range(x.ndim)) if span == "tensor" else axes)
    steps = np.clip(np.rint(x / scale) + zero_point, 0, _LEVELS).astype(np.float64) - zero_point
    integers = weight.values.astype(np.float64)
    channels = (1, -1, 1, 1) if node.op == "Conv" else (-1,)
    total = execute.convolve_node(node, steps, integers) if node.op == "Conv" else steps @ integers.T
    real = total * scale.astype(np.float64) * _scales(weight.params).reshape(channels)
    return real + inputs[2].reshape(channels) if len(inputs) > 2 else real


def _scales(params: QuantParams) -> npt.NDArray[np.float64]:
    return params.scale.astype(np.float64)
