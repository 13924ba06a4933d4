"""Somebody else's 8-bit decisions -> a `QuantizedGraph`: taken over where our formats can say them, else replaced.

What TFLite's int8 kernels compute is narrower than what a QDQ file can say: symmetric weights per output channel, one
grid per activation, one grid for all that is only moved. A decision outside of it is replaced by the nearest one
inside, with a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.graph import Graph
from edgekit.core.quant import QuantizedGraph, QuantParams, QuantTensor
from edgekit.lowbit.qdq_reader import QdqFile
from edgekit.quantize import weights
from edgekit.quantize.limits import widen_tiny_grids
from edgekit.quantize.plan import ActivationGroup, Layer, QuantizationPlan, plan_quantization
from edgekit.quantize.ptq import FIXED_GRID, replace_biases, unshare_constants
from edgekit.quantize.ranges import grid_of_range

_BITS = 8
_LOWEST_WEIGHT = -127


class Adopted(msgspec.Struct, frozen=True, kw_only=True):
    """A quantized graph from decisions made elsewhere.

    Args:
        model: The graph, its integers and grids.
        notes: What could not be taken over as it was, one sentence each, for the report.
        num_exact: Layers whose weights were taken over integer by integer.
    """

    model: QuantizedGraph
    notes: tuple[str, ...]
    num_exact: int


def adopt(
    graph: Graph, found: QdqFile, fallback: Mapping[str, QuantParams], *, scheme: str = "static_wi8_ai8"
) -> Adopted:
    """Turn a QDQ file's decisions into a quantized graph.

    Args:
        graph: The float graph that the file was made from.
        found: The file's grids, integers and biases.
        fallback: A grid for every activation that gets one, used where the file left it in float.
        scheme: Scheme id of the result.

    Raises:
        UnsupportedOpError: An operator without an integer form; names the node.
        QuantizationError: A constant is not finite.
    """
    graph = unshare_constants(graph)
    plan = plan_quantization(graph)
    notes = _Notes()
    biases = {
        layer.node.name: found.biases[layer.node.name] for layer in plan.layers if layer.node.name in found.biases
    }
    graph, _ = replace_biases(graph, biases)
    plan = plan_quantization(graph)
    constants = {name: weights.quantize_operand(_real(graph, name), name=name) for name in plan.constants}
    for layer in plan.layers:
        constants[layer.weight] = _weight(graph, layer, found.weights.get(layer.node.name), notes)
    grids = _activation_grids(plan, found, fallback, notes)
    grids = widen_tiny_grids(graph, plan, grids, {name: tensor.params for name, tensor in constants.items()})
    for layer in plan.layers:
        bias = _real(graph, layer.bias) if layer.bias else None
        constants[layer.weight] = _guarded(constants[layer.weight], layer, grids, bias)
        if layer.bias:
            real = biases.get(layer.node.name, np.asarray(graph.constants[layer.bias], np.float64))
            input_scale = float(grids[layer.input].scale[0])
            constants[layer.bias] = weights.quantize_bias(
                real, input_scale, constants[layer.weight].params, name=layer.bias
            )
    if found.unknown:
        notes.add("values inside an operator have a grid that is not used", found.unknown[0], len(found.unknown))
    model = QuantizedGraph(graph=graph, scheme=scheme, activations=grids, constants=constants)
    return Adopted(model=model, notes=notes.sentences(), num_exact=len(plan.layers) - notes.num_rounded)


class _Notes:
    """Counts per kind of replacement, with the first name of each."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self.num_rounded = 0

    def add(self, what: str, name: str, count: int = 1) -> None:
        self._first.setdefault(what, name)
        self._counts[what] = self._counts.get(what, 0) + count

    def rounded(self, what: str, name: str) -> None:
        self.add(what, name)
        self.num_rounded += 1

    def sentences(self) -> tuple[str, ...]:
        return tuple(f"{self._counts[what]} x {what} (first: {name})" for what, name in self._first.items())


def _weight(graph: Graph, layer: Layer, tensor: QuantTensor | None, notes: _Notes) -> QuantTensor:
    """The file's integers where our kernels can take them, else the file's real values on a grid of ours."""
    name = layer.node.name
    real = _real(graph, layer.weight)
    if tensor is None:
        notes.rounded("weights left in float were rounded here", name)
        return _rounded(real, layer.weight)
    if tensor.values.dtype != np.int8 or tensor.values.shape != real.shape:
        notes.rounded("weights of another type or shape were rounded here", name)
        return _rounded(real, layer.weight)
    if tensor.params.zero_point.any():
        notes.rounded("asymmetric weights were rounded again, symmetrically", name)
        return _rounded(tensor.dequantize(), layer.weight)
    if tensor.params.axis not in {None, 0}:
        notes.rounded("weights with a scale per input channel were rounded again, per output channel", name)
        return _rounded(tensor.dequantize(), layer.weight)
    values = tensor.values
    if values.size and values.min() < _LOWEST_WEIGHT:
        notes.add("weights of -128 became -127", name)
        values = np.maximum(values, np.int8(_LOWEST_WEIGHT))
    channels = values.shape[0]
    params = QuantParams(  # one scale for the layer is that scale in every channel
        scale=np.broadcast_to(tensor.params.scale, (channels,)).astype(np.float32),
        zero_point=np.zeros(channels, np.int32),
        axis=0,
        num_bits=_BITS,
    )
    return QuantTensor(values=values, params=params)


def _rounded(real: npt.NDArray[np.floating], name: str) -> QuantTensor:
    grid = weights.choose_weight_grid(real, _BITS, "max", name=name)
    return QuantTensor(values=weights.round_to_nearest(real, grid), params=grid)


def _guarded(
    tensor: QuantTensor, layer: Layer, grids: Mapping[str, QuantParams], bias: npt.NDArray[np.floating] | None
) -> QuantTensor:
    """The weight on the grid that keeps bias and multiplier within what kernels take; almost always its own."""
    input_scale, output_scale = float(grids[layer.input].scale[0]), float(grids[layer.output].scale[0])
    grid = weights.guard_bias(tensor.params, bias, input_scale, output_scale)
    if np.array_equal(grid.scale, tensor.params.scale):
        return tensor
    return QuantTensor(values=weights.round_to_nearest(tensor.dequantize(), grid), params=grid)


def _activation_grids(
    plan: QuantizationPlan, found: QdqFile, fallback: Mapping[str, QuantParams], notes: _Notes
) -> dict[str, QuantParams]:
    grids: dict[str, QuantParams] = {}
    for group in plan.groups:
        grids.update(dict.fromkeys(group.members, _group_grid(group, found, fallback, notes)))
    for name in found.activations:
        if name in plan.fused:
            notes.add("values before a fused Relu or Clip have a grid that is not used", name)
    return grids


def _group_grid(
    group: ActivationGroup, found: QdqFile, fallback: Mapping[str, QuantParams], notes: _Notes
) -> QuantParams:
    """One grid for a group: the file's only one as it is, or one that spans all that the file has."""
    if group.is_fixed:
        return FIXED_GRID
    choices = [grid for name in group.visible for grid in found.activations.get(name, ())]
    choices = choices or [grid for name in group.members for grid in found.activations.get(name, ())]
    first = group.members[0]
    if not choices:
        notes.add("activations left in float have a grid from edgekit's calibration", first)
        return fallback[first]
    if any(grid.axis is not None for grid in choices):
        notes.add("activations with a grid per channel have one that spans them all", first)
    distinct = {(float(grid.scale[0]), int(grid.zero_point[0])) for grid in choices if grid.axis is None}
    if len(distinct) == 1 and all(grid.axis is None for grid in choices):
        return choices[0]
    if len(distinct) > 1:
        notes.add("grids that must be one, of values that are only moved, became one that spans them all", first)
    return _spanning(choices)


def _spanning(choices: Sequence[QuantParams]) -> QuantParams:
    lowest = min(float(((grid.qmin - grid.zero_point) * grid.scale).min()) for grid in choices)
    highest = max(float(((grid.qmax - grid.zero_point) * grid.scale).max()) for grid in choices)
    return grid_of_range(lowest, highest)


def _real(graph: Graph, name: str) -> npt.NDArray[np.float32]:
    return np.asarray(graph.constants[name], dtype=np.float32)
