"""Static post-training quantization: a float graph and its calibration become integers, scales and zero-points.

The order: plan (which activations get a grid, `plan`), choose weight grids (`weights`) and activation grids (`ranges`),
keep both within what kernels compute (`limits`, `weights.guard_bias`), round the weights (a replaceable step), correct
the biases (`bias`), round them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import QuantizationError, UsageError
from edgekit.core.graph import Array, Graph, Node
from edgekit.core.quant import QuantizedGraph, QuantParams, QuantTensor
from edgekit.core.recipe import QuantizeSection
from edgekit.quantize import weights
from edgekit.quantize.bias import mean_shift
from edgekit.quantize.calibration import Calibration
from edgekit.quantize.histogram import merge
from edgekit.quantize.limits import widen_tiny_grids
from edgekit.quantize.plan import Layer, QuantizationPlan, plan_quantization
from edgekit.quantize.ranges import choose_grid
from edgekit.quantize.schemes import Scheme, parse_scheme, require_supported

FIXED_GRID = QuantParams(
    scale=np.array([1.0 / 256.0], dtype=np.float32), zero_point=np.array([-128], dtype=np.int32), num_bits=8
)
"""Grid of values from 0 to 1 (Sigmoid, Softmax), as TFLite demands it."""


class Rounding(Protocol):
    """How the weights of one layer become integers once their grid is chosen.

    Rounding to nearest is `weights.round_to_nearest` wrapped; learned and second-order rounding are objects that carry
    what they need (inputs of the layer, a Hessian) by layer name.
    """

    def __call__(self, layer: Layer, weight: npt.NDArray[np.floating], grid: QuantParams) -> npt.NDArray[np.int8]:
        """Integers of a weight tensor, within -qmax..qmax of the grid."""
        ...


def nearest(layer: Layer, weight: npt.NDArray[np.floating], grid: QuantParams) -> npt.NDArray[np.int8]:
    """The default `Rounding`: each weight on its own."""
    del layer
    return weights.round_to_nearest(weight, grid)


class QuantizationStart(msgspec.Struct, frozen=True, kw_only=True):
    """A network with all its grids chosen, before any weight is rounded.

    Args:
        graph: Float graph in which every layer has constants of its own.
        scheme: Scheme id.
        plan: What is quantized, and what shares a grid.
        activations: Activation name -> grid.
        operands: Constants of Add and Mul, quantized.
        weight_grids: Layer name -> grid of its weights that reaches the largest of each channel.
    """

    graph: Graph
    scheme: str
    plan: QuantizationPlan
    activations: Mapping[str, QuantParams]
    operands: Mapping[str, QuantTensor]
    weight_grids: Mapping[str, QuantParams]


class DecidedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """The integers of one layer, and its bias in float.

    Args:
        weight: int8 on its grid, in the shape of the float weights.
        bias: float64 [out]; None leaves a layer without one as it is.
    """

    weight: QuantTensor
    bias: npt.NDArray[np.float64] | None


def quantize_static(
    graph: Graph,
    calibration: Calibration,
    config: QuantizeSection,
    *,
    rounding: Rounding = nearest,
    one_scale: Collection[str] = (),
) -> QuantizedGraph:
    """Quantize a float graph to int8 activations and int8-stored weights, each layer on its own.

    Args:
        graph: Canonical float graph.
        calibration: From `calibrate` on the same graph.
        config: Scheme, how ranges are chosen, bias correction, reduced range.
        rounding: How weights become integers.
        one_scale: Layers (node names) with one scale for all channels: those whose channels share their values, which
            a scale per channel would pull apart.

    Raises:
        UsageError: The scheme is not in the grammar, or not one that is implemented.
        UnsupportedOpError: An operator without an integer form; names the node.
        QuantizationError: A weight or bias is not finite, or the calibration is of another graph; names the tensor.
    """
    start = start_quantization(graph, calibration, config, one_scale=one_scale)
    decided: dict[str, DecidedLayer] = {}
    for layer in start.plan.layers:
        weight = _real(start.graph, layer.weight)
        grid = guarded_grid(start, layer, start.weight_grids[layer.node.name])
        if layer.node.name in one_scale:
            grid = weights.with_one_scale(grid)
        values = rounding(layer, weight, grid)
        bias = _real(start.graph, layer.bias) if layer.bias else np.zeros(weight.shape[0])
        if config.bias_correction:
            error = grid.dequantize(values)
            error -= weight
            bias = bias - mean_shift(start.graph, layer, error, calibration.channel_means[layer.input])
        has_bias = layer.bias is not None or config.bias_correction
        decided[layer.node.name] = DecidedLayer(
            weight=QuantTensor(values=values, params=grid), bias=bias.astype(np.float64) if has_bias else None
        )
    return finish_quantization(start, decided)


def start_quantization(
    graph: Graph,
    calibration: Calibration,
    config: QuantizeSection,
    *,
    bits: Mapping[str, int] | None = None,
    one_scale: Collection[str] = (),
    activations: Mapping[str, QuantParams] | None = None,
) -> QuantizationStart:
    """Choose the grids of activations, operands and weights.

    Args:
        graph: Canonical float graph.
        calibration: From `calibrate` on the same graph.
        config: Scheme, how ranges are chosen, reduced range.
        bits: Layer name -> grid bits of its weights; None, or a layer that is absent, takes those of the scheme.
        one_scale: Layers with one scale for all channels.
        activations: From `choose_activation_grids`, where they are known already; None chooses them.

    Raises:
        As `quantize_static`.
    """
    scheme = parse_scheme(config.scheme)
    require_supported(scheme)
    if scheme.mode != "static":
        raise UsageError(f"scheme {scheme.id} is not static", hint="for example static_wi8_ai8")
    graph = unshare_constants(graph)
    plan = plan_quantization(graph)
    operands = {name: weights.quantize_operand(_real(graph, name), name=name) for name in plan.constants}
    num_bits = effective_weight_bits(scheme, config)
    weight_grids: dict[str, QuantParams] = {}
    for layer in plan.layers:
        own_bits = min((bits or {}).get(layer.node.name, num_bits), 7 if config.reduce_range else 8)
        grid = weights.choose_weight_grid(_real(graph, layer.weight), own_bits, "max", name=layer.weight)
        weight_grids[layer.node.name] = weights.with_one_scale(grid) if layer.node.name in one_scale else grid
    constant_grids = {name: tensor.params for name, tensor in operands.items()}
    constant_grids |= {layer.weight: weight_grids[layer.node.name] for layer in plan.layers}
    if activations is None:
        activations = choose_activation_grids(plan, calibration, config)
    return QuantizationStart(
        graph=graph,
        scheme=config.scheme,
        plan=plan,
        activations=widen_tiny_grids(graph, plan, activations, constant_grids),
        operands=operands,
        weight_grids=weight_grids,
    )


def finish_quantization(start: QuantizationStart, decided: Mapping[str, DecidedLayer]) -> QuantizedGraph:
    """Put decided layers into the graph, their biases on the grid of the products.

    Args:
        start: From `start_quantization`.
        decided: By layer name, all of them.

    Raises:
        QuantizationError: A bias is not finite; names it.
    """
    constants: dict[str, QuantTensor] = dict(start.operands)
    biases = {name: layer.bias for name, layer in decided.items() if layer.bias is not None}
    graph, bias_names = replace_biases(start.graph, biases)
    for layer in start.plan.layers:
        tensor = decided[layer.node.name].weight
        constants[layer.weight] = tensor
        name = bias_names.get(layer.node.name)
        if name is not None:
            input_scale = float(start.activations[layer.input].scale[0])
            constants[name] = weights.quantize_bias(biases[layer.node.name], input_scale, tensor.params, name=name)
    return QuantizedGraph(graph=graph, scheme=start.scheme, activations=start.activations, constants=constants)


def guarded_grid(start: QuantizationStart, layer: Layer, grid: QuantParams) -> QuantParams:
    """A layer's weight grid with scales raised to what kernels and the int32 bias take (`weights.guard_bias`).

    Raises:
        QuantizationError: The bias is not finite; names it.
    """
    bias = _real(start.graph, layer.bias) if layer.bias else None
    if bias is not None:
        weights.require_finite(bias, str(layer.bias))
    input_scale = float(start.activations[layer.input].scale[0])
    return weights.guard_bias(grid, bias, input_scale, float(start.activations[layer.output].scale[0]))


def effective_weight_bits(scheme: Scheme, config: QuantizeSection) -> int:
    """Grid bits of the weights; `reduce_range` takes one off eight.

    With 7-bit weights the pairs of products that AVX2 adds up in 16 bits cannot saturate.
    """
    return min(scheme.weight_bits, 7) if config.reduce_range else scheme.weight_bits


def choose_activation_grids(
    plan: QuantizationPlan, calibration: Calibration, config: QuantizeSection
) -> dict[str, QuantParams]:
    """One grid per group, from the merged histograms of its visible members, given to every member.

    The graph's output always spans everything seen: its largest values are the answers, and where two saturate they
    tie.

    Raises:
        QuantizationError: The calibration lacks an activation of the plan.
    """
    if not 50.0 < config.percentile <= 100.0:
        raise QuantizationError(f"percentile: expected above 50 and at most 100, got {config.percentile}")
    grids: dict[str, QuantParams] = {}
    for group in plan.groups:
        if group.is_fixed:
            grid = FIXED_GRID
        else:
            missing = [name for name in group.visible if name not in calibration.histograms]
            if missing:
                raise QuantizationError(f"calibration has no activation {missing[0]}: it is of another graph")
            histogram = merge(calibration.histograms[name] for name in group.visible)
            method = "minmax" if group.is_output else config.ranges
            grid = choose_grid(histogram, method, percentile=config.percentile)
        grids.update(dict.fromkeys(group.members, grid))
    return grids


def unshare_constants(graph: Graph) -> Graph:
    """Give every node constants of its own: the grid of a bias depends on the layer's input, so none can be shared."""
    taken: set[str] = set()
    constants = dict(graph.constants)
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs: list[str] = []
        for name in node.inputs:
            own = f"{name}@{node.name}" if name in taken else name
            if name in graph.constants:
                constants[own] = graph.constants[name]
                taken.add(own)
            inputs.append(own)
        nodes.append(_with_inputs(node, inputs))
    return graph.replace(nodes=nodes, constants=constants)


def replace_biases(graph: Graph, biases: Mapping[str, npt.NDArray[np.float64]]) -> tuple[Graph, dict[str, str]]:
    """The graph with new float biases, adding one to layers that have none; and node name -> bias name."""
    constants: dict[str, Array] = dict(graph.constants)
    names: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in biases:
            given = node.inputs[2:]
            names[node.name] = given[0] if given else f"{node.name}.bias"
            constants[names[node.name]] = biases[node.name].astype(np.float32)
            node = _with_inputs(node, [*node.inputs[:2], names[node.name]])
        nodes.append(node)
    return graph.replace(nodes=nodes, constants=constants), names


def _with_inputs(node: Node, inputs: list[str]) -> Node:
    return Node(name=node.name, op=node.op, inputs=tuple(inputs), outputs=node.outputs, attrs=node.attrs)


def _real(graph: Graph, name: str) -> npt.NDArray[np.float32]:
    return np.asarray(graph.constants[name], dtype=np.float32)
