"""Cut a hub graph: weights, biases and shapes without the removed units."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import msgspec
import numpy as np

from edgekit.core.errors import GraphError
from edgekit.core.graph import WEIGHTED_OPS, Array, Attribute, Graph, Node, channel_axis
from edgekit.prune.channel_map import ChannelMap, Units, map_channels
from edgekit.prune.plan import PrunePlan


def kept_places(units: Units, removed: AbstractSet[int]) -> Units:
    """Positions of the units that stay, ascending.

    >>> kept_places(np.array([4, 5, 6, 5]), {5}).tolist()
    [0, 2]
    """
    return np.flatnonzero(~np.isin(units, list(removed)))


def apply_plan(graph: Graph, plan: PrunePlan) -> Graph:
    """Cut a graph as planned.

    Raises:
        GraphError: The plan was made for another graph.
    """
    channels = map_channels(graph)
    removed: set[int] = set()
    for cut in plan.cuts:
        for units, kept in ((channels.inputs, cut.kept_inputs), (channels.outputs, cut.kept_outputs)):
            if cut.layer not in units or max(kept, default=-1) >= len(units[cut.layer]):
                raise GraphError(f"the prune plan does not fit the model: layer {cut.layer!r}")
            removed.update(np.delete(units[cut.layer], list(kept)).tolist())
    frozen = next((channels.frozen[unit] for unit in sorted(removed) if unit in channels.frozen), None)
    if frozen is not None:
        raise GraphError(f"the prune plan does not fit the model: it removes channels that must stay ({frozen})")
    return cut_graph(graph, channels, removed)


def cut_graph(graph: Graph, channels: ChannelMap, removed: AbstractSet[int]) -> Graph:
    """The same network without some units.

    Args:
        graph: The network.
        channels: Its units.
        removed: Units to leave out, none of them frozen.
    """
    constants: dict[str, Array] = dict(graph.constants)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op in WEIGHTED_OPS:
            kept_inputs = kept_places(channels.inputs[node.name], removed)
            kept_outputs = kept_places(channels.outputs[node.name], removed)
            groups = _num_groups(graph, node, len(kept_inputs))
            weight = graph.constants[node.inputs[1]]
            constants[node.inputs[1]] = cut_weight(weight, kept_inputs, kept_outputs, _old_groups(node))
            for bias in node.inputs[2:]:
                constants[bias] = graph.constants[bias][kept_outputs]
            if groups is not None:
                attrs: dict[str, Attribute] = {**node.attrs, "group": groups}
                node = msgspec.structs.replace(node, attrs=attrs)
        nodes.append(node)
    for name, (axis, units) in channels.constants.items():
        constants[name] = np.take(graph.constants[name], kept_places(units, removed), axis)
    shapes = {
        name: _cut_shape(shape, len(kept_places(channels.activations[name], removed))) if len(shape) > 1 else shape
        for name, shape in graph.shapes.items()
    }
    return graph.replace(nodes=nodes, constants=constants, shapes=shapes)


def _cut_shape(shape: tuple[int, ...], num_channels: int) -> tuple[int, ...]:
    axis = channel_axis(len(shape))
    return (*shape[:axis], num_channels, *shape[axis + 1 :])


def cut_weight(weight: Array, kept_inputs: Units, kept_outputs: Units, num_groups: int) -> Array:
    """Rows and columns of a weight that stay.

    Args:
        weight: [out, in / groups, ...].
        kept_inputs: Input channels that stay, counted over all groups, as many in every group.
        kept_outputs: Output channels that stay.
        num_groups: Of the convolution before cutting; 1 for a linear layer.
    """
    size = weight.shape[1]
    rows = weight[kept_outputs]
    if size == 1 and num_groups > 1:  # depthwise: the one input goes with its output
        return np.ascontiguousarray(rows)
    places = np.stack([part % size for part in np.split(kept_inputs, num_groups)])  # [groups, kept in / groups]
    of_row = kept_outputs // (weight.shape[0] // num_groups)
    columns = places[of_row].reshape(len(rows), places.shape[1], *[1] * (weight.ndim - 2))
    return np.ascontiguousarray(np.take_along_axis(rows, columns, 1))


def _old_groups(node: Node) -> int:
    return node.int("group") if node.op == "Conv" else 1


def _num_groups(graph: Graph, node: Node, num_inputs: int) -> int | None:
    """Groups after the cut: a depthwise convolution has one per channel; None when nothing changes."""
    return num_inputs if graph.is_depthwise(node) else None
