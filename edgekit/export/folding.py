"""Folding per-channel scales and shifts (BatchNorm, Mul, Add by constants) into the layer before them.

Ioffe and Szegedy 2015: at inference BatchNorm is y = (x - mean) / sqrt(var + eps) * gamma + beta, an affine map per
channel, so Conv(x) * a + b is again a Conv. Folded in float64, stored as float32.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import GraphError
from edgekit.core.graph import TOKEN_RANK, Graph, Node, channel_axis
from edgekit.export.sweep import Sweep, is_weighted, sweep_graph

Vector = npt.NDArray[np.float64]


def fold_batch_norm(graph: Graph) -> Graph:
    """Remove every BatchNormalization: folded into the Conv or Gemm before it, else turned into what quantizes best.

    A BatchNorm after anything else (pre-activation nets) becomes a 1x1 depthwise Conv: one rounding, per-channel
    weights and a 32-bit bias, where Mul then Add would round twice to 8 bits. On [N, C] it becomes Mul and Add.
    """
    return sweep_graph(graph, (fold_affine, batch_norm_as_depthwise))


def fold_affine(sweep: Sweep, node: Node) -> bool:
    """Rule: fold a BatchNormalization, or a Mul or Add by a per-channel constant, into the Conv or Gemm before it."""
    affine = _affine(sweep, node)
    if affine is None:
        return False
    source, scale, shift = affine
    layer = sweep.producer(source)
    if layer is None or not is_weighted(layer) or not sweep.used_once(source):
        return False
    weight = sweep.constants[layer.inputs[1]].astype(np.float64)
    channels = weight.shape[0]
    scale, shift = np.broadcast_to(scale, (channels,)), np.broadcast_to(shift, (channels,))
    has_bias = len(layer.inputs) > 2
    bias = sweep.constants[layer.inputs[2]].astype(np.float64) if has_bias else np.zeros(channels)
    weight_name = layer.inputs[1]
    if not np.array_equal(scale, np.ones(channels)):
        folded = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        weight_name = sweep.add_constant(f"{layer.name}.weight", folded, instead_of=weight_name)
    on_tokens = len(sweep.shape(node.output)) == TOKEN_RANK
    superseded = layer.inputs[2] if has_bias else None
    if on_tokens and not has_bias:
        superseded = next(name for name in node.inputs if sweep.is_constant(name))
    bias_name = sweep.add_constant(
        bias_name_of(layer.inputs[1], layer.name), bias * scale + shift, instead_of=superseded
    )
    inputs = (layer.inputs[0], weight_name, bias_name)
    if on_tokens:  # files have the bias of such a layer apart: the sum is what it is known by
        sweep.emit(Node(name=layer.name, op=layer.op, inputs=inputs, outputs=node.outputs, attrs=layer.attrs))
        return True
    sweep.emit(Node(name=layer.name, op=layer.op, inputs=inputs, outputs=layer.outputs, attrs=layer.attrs))
    return sweep.forward(node.output, source)


def batch_norm_as_depthwise(sweep: Sweep, node: Node) -> bool:
    """Rule: a BatchNormalization that folds nowhere becomes a 1x1 depthwise Conv, or Mul and Add on [N, C]."""
    if node.op != "BatchNormalization":
        return False
    scale, shift = _batch_norm_affine(sweep, node)
    channels = scale.size
    if len(sweep.shape(node.inputs[0])) == 2:
        product = f"{node.name}/scaled"
        weight = sweep.add_constant(f"{node.name}.scale", scale.reshape(1, -1))
        bias = sweep.add_constant(f"{node.name}.shift", shift.reshape(1, -1))
        sweep.emit(Node(name=product, op="Mul", inputs=(node.inputs[0], weight), outputs=(product,)))
        return sweep.emit_as(node, "Add", (product, bias))
    weight = sweep.add_constant(f"{node.name}.weight", scale.reshape(-1, 1, 1, 1), instead_of=node.inputs[1])
    bias = sweep.add_constant(f"{node.name}.bias", shift, instead_of=node.inputs[2])
    attrs = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": channels}
    return sweep.emit_as(node, "Conv", (node.inputs[0], weight, bias), attrs)


def bias_name_of(weight_name: str, node_name: str) -> str:
    """Name of the bias that belongs to a weight.

    >>> bias_name_of("features.0.weight", "Conv_0")
    'features.0.bias'
    """
    return f"{weight_name.removesuffix('.weight')}.bias" if weight_name.endswith(".weight") else f"{node_name}.bias"


def _affine(sweep: Sweep, node: Node) -> tuple[str, Vector, Vector] | None:
    """(input, scale, shift) of a per-channel affine node; scale and shift have 1 or C elements."""
    if node.op == "BatchNormalization":
        if len(sweep.shape(node.output)) == TOKEN_RANK:
            return None  # its channels are axis 1, those of a layer on tokens the last
        scale, shift = _batch_norm_affine(sweep, node)
        return node.inputs[0], scale, shift
    if node.op not in ("Mul", "Add"):
        return None
    constants = [name for name in node.inputs if sweep.is_constant(name)]
    data = [name for name in node.inputs if not sweep.is_constant(name)]
    if len(constants) != 1 or len(data) != 1 or sweep.shape(node.output) != sweep.shape(data[0]):
        return None
    array = sweep.constants[constants[0]].astype(np.float64)
    rank = len(sweep.shape(data[0]))
    axis_from_end = rank - channel_axis(rank)
    if array.size != 1 and (array.ndim < axis_from_end or array.shape[array.ndim - axis_from_end] != array.size):
        return None
    vector = array.reshape(-1)
    if node.op == "Mul":
        return data[0], vector, np.zeros(1)
    return data[0], np.ones(1), vector


def _batch_norm_affine(sweep: Sweep, node: Node) -> tuple[Vector, Vector]:
    gamma, beta, mean, variance = (sweep.constants[name].astype(np.float64) for name in node.inputs[1:5])
    channels = sweep.shape(node.inputs[0])[1]
    sizes = {gamma.shape, beta.shape, mean.shape, variance.shape}
    if sizes != {(channels,)} or np.any(variance < 0):
        raise GraphError(
            f"BatchNormalization {node.name!r}: expected 4 vectors of {channels} with variances >= 0, "
            f"got shapes {sorted(sizes)}",
            hint="the model file or the checkpoint is damaged",
        )
    scale = gamma / np.sqrt(variance + node.float("epsilon"))
    return scale, beta - mean * scale
