"""Between a quantized graph and a network that is trained on its grids: put in, read out.

What is trained is what is exported: the network computes on the integers that `read_out` gives. Activations and biases
are rounded where the exported file rounds, and BatchNorm is folded before training begins (static folding), so that
there is nothing left to fold at the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from edgekit.core.errors import QuantizationError
from edgekit.core.graph import Graph
from edgekit.core.quant import QuantizedGraph, QuantParams, QuantTensor
from edgekit.quantize import weights
from edgekit.quantize.limits import widen_tiny_grids
from edgekit.quantize.lsq import BiasGrid, LearnedGrid, LearnedWeightGrid
from edgekit.quantize.network import FixedGrid, GraphNetwork
from edgekit.quantize.plan import ActivationGroup, QuantizationPlan, plan_quantization
from edgekit.quantize.ptq import replace_biases

Latents = Literal["float", "grid"]
"""Where the weights start that training moves: at the float ones, or on their grid."""

_KEEPING_OPS = frozenset(
    {"Relu", "MaxPool", "Concat", "Slice", "Reshape", "Flatten", "Transpose", "ChannelShuffle", "Split"}
)
"""Operators whose results lie on the grid that they share with their inputs: rounding again would change nothing."""
_CELL = 0.499
"""How far from its level a float weight may start, in steps: less than a half, so that it rounds to that level."""


def make_trainable(start: QuantizedGraph, latents: Latents = "float") -> GraphNetwork:
    """The network of a quantized graph with grids that learn.

    It begins with the integers, grids and biases of `start`. Grids of the input and of Sigmoids and Softmaxes stay as
    they are; activations that share a grid share one module.

    Args:
        start: Fully quantized, its weights symmetric per_channel.
        latents: "float": each weight starts at its float value, or at the nearest end of the interval that rounds to
            its integer where rounding was not to nearest. "grid": at the value that its integer stands for.
    """
    network = GraphNetwork(start.graph)
    plan = plan_quantization(start.graph)
    for name in plan.constants:
        network.set_operand(name, torch.from_numpy(start.constants[name].dequantize()))
    for layer in plan.layers:
        tensor = start.constants[layer.weight]
        grid = LearnedWeightGrid(tensor.params, math.prod(tensor.values.shape[1:]))
        network.quantize_weight(layer.node.name, grid)
        value = _latent(np.asarray(start.graph.constants[layer.weight], np.float32), tensor, latents)
        network.weight(layer.node.name).data.copy_(torch.from_numpy(value))
    modules: dict[str, FixedGrid | LearnedGrid] = {}
    for group in plan.groups:
        module = _activation_module(start, group)
        modules |= dict.fromkeys(group.members, module)
        for name in _rounding_members(start.graph, plan, group):
            network.quantize_activation(name, module)
    for layer in plan.layers:
        name = layer.node.name
        network.quantize_bias(name, BiasGrid(modules[layer.input], _weight_grid(network, name)))
    return network


def read_out(network: GraphNetwork, start: QuantizedGraph) -> QuantizedGraph:
    """The integers that a trained network computes with.

    Grids are kept within what kernels compute (`limits`, `weights.guard_bias`), which changes those of ordinary
    networks not at all.

    Args:
        network: From `make_trainable`, trained or not.
        start: What it was made from.

    Raises:
        QuantizationError: A bias or step is not finite; names it.
    """
    plan = plan_quantization(start.graph)
    biases = {name: network.bias(name).detach().cpu().double().numpy() for name in network.layers}
    for name, bias in biases.items():
        weights.require_finite(bias, f"{name}.bias")
    graph, bias_names = replace_biases(start.graph, biases)
    constants = {name: start.constants[name] for name in plan.constants}
    learned = {layer.node.name: _weight_grid(network, layer.node.name).read_grid() for layer in plan.layers}
    constant_grids = {name: tensor.params for name, tensor in constants.items()}
    constant_grids |= {layer.weight: learned[layer.node.name] for layer in plan.layers}
    grids = widen_tiny_grids(graph, plan, _activation_grids(network, plan, start), constant_grids)
    for layer in plan.layers:
        name = layer.node.name
        weights.require_finite(learned[name].scale, f"{name}: step")
        input_scale, output_scale = float(grids[layer.input].scale[0]), float(grids[layer.output].scale[0])
        grid = weights.guard_bias(learned[name], biases[name], input_scale, output_scale)
        values = _levels(network, name, learned[name], grid)
        constants[layer.weight] = QuantTensor(values=values, params=grid)
        constants[bias_names[name]] = weights.quantize_bias(biases[name], input_scale, grid, name=bias_names[name])
    return QuantizedGraph(graph=graph, scheme=start.scheme, activations=grids, constants=constants)


def _latent(weight: npt.NDArray[np.float32], tensor: QuantTensor, latents: Latents) -> npt.NDArray[np.float32]:
    centre = tensor.dequantize()
    if latents == "grid":
        return centre
    reach = (_CELL * tensor.params.scale).reshape(-1, *[1] * (weight.ndim - 1))
    # A weight beyond the last level saturates, wherever it lies: no need to pull it in.
    lowest = np.where(tensor.values == -tensor.params.qmax, np.minimum(weight, centre - reach), centre - reach)
    highest = np.where(tensor.values == tensor.params.qmax, np.maximum(weight, centre + reach), centre + reach)
    return np.clip(weight, lowest, highest).astype(np.float32)


def _activation_module(start: QuantizedGraph, group: ActivationGroup) -> FixedGrid | LearnedGrid:
    grid = start.activations[group.members[0]]
    if group.is_fixed or start.graph.input in group.members:
        return FixedGrid(grid)
    return LearnedGrid(grid, max(math.prod(start.graph.shapes[name][1:]) for name in group.members))


def _rounding_members(graph: Graph, plan: QuantizationPlan, group: ActivationGroup) -> list[str]:
    """Members of a group whose values are not on the grid by themselves."""
    producers = graph.producers()
    found: list[str] = []
    for name in group.members:
        node = producers.get(name)
        is_kept = node is not None and node.op in _KEEPING_OPS and node.inputs[0] not in plan.fused
        if not is_kept:
            found.append(name)
    return found


def _activation_grids(network: GraphNetwork, plan: QuantizationPlan, start: QuantizedGraph) -> dict[str, QuantParams]:
    grids: dict[str, QuantParams] = {}
    for group in plan.groups:
        modules = [network.activation_quantizer(name) for name in _rounding_members(start.graph, plan, group)]
        learned = [module for module in modules if isinstance(module, LearnedGrid)]
        grid = learned[0].read_grid() if learned else start.activations[group.members[0]]
        weights.require_finite(grid.scale, f"{group.members[0]}: step")
        grids.update(dict.fromkeys(group.members, grid))
    return grids


def _levels(network: GraphNetwork, name: str, learned: QuantParams, grid: QuantParams) -> npt.NDArray[np.int8]:
    """The integers as the network rounds them; anew where the guarded grid is another."""
    weight = network.weight(name).detach()
    weights.require_finite(weight.cpu().numpy(), f"{name}.weight")
    if np.array_equal(learned.scale, grid.scale):
        return _weight_grid(network, name).levels(weight).cpu().numpy().astype(np.int8)
    return weights.round_to_nearest(weight.cpu().numpy(), grid)


def _weight_grid(network: GraphNetwork, name: str) -> LearnedWeightGrid:
    module = network.weight_quantizer(name)
    if not isinstance(module, LearnedWeightGrid):
        raise QuantizationError(f"layer {name} has no learned grid", hint="make the network by make_trainable")
    return module


def weight_grids(network: GraphNetwork) -> Mapping[str, LearnedWeightGrid]:
    """The learned grids of a trainable network, by layer name. Raises `QuantizationError` when a layer has none."""
    return {name: _weight_grid(network, name) for name in network.layers}
