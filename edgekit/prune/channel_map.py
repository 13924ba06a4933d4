"""Which channels belong together: every channel of every activation gets a unit, and units are removed whole.

Units flow along the graph. A convolution makes new ones; a depthwise convolution, an activation or a pooling passes
them on; an addition makes the units of its two sides one (DepGraph, Fang et al. 2023, arXiv:2301.12900, section 3.1,
finds the same groups layer by layer; channel by channel, concatenation and shuffling need no special cases). Grouped
convolutions must keep their parts equally wide: they leave a `Partition`. In a transformer the hidden layers of the
perceptrons can be narrowed; what passes through attention and layer normalization stays.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.graph import TOKEN_RANK, WEIGHTED_OPS, Graph, Node, channel_axis

Units = npt.NDArray[np.int64]

_PASSING = frozenset(
    {"MaxPool", "AveragePool", "GlobalAveragePool", "Relu", "Clip", "Sigmoid", "HardSwish", "HardSigmoid", "Softmax"}
    | {"Gelu", "Pad"}
)


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """Equal parts that must stay equal.

    Args:
        layer: Node that asks for it.
        parts: Units of each part, [num_parts, part size].
    """

    layer: str
    parts: Units


class ChannelMap(msgspec.Struct, frozen=True, kw_only=True):
    """The units of a graph.

    Args:
        inputs: Units of the input channels of each weighted node; for `Gemm` of the input features.
        outputs: Units of the output channels of each weighted node.
        activations: Units of the channels of every activation (`channel_axis`).
        constants: Units along the channel axis of constants that are added or multiplied, with that axis.
        partitions: What must stay equally wide.
        frozen: Units that must stay, and why ("input", "output", "Split at NAME").
    """

    inputs: dict[str, Units]
    outputs: dict[str, Units]
    activations: dict[str, Units]
    constants: dict[str, tuple[int, Units]]
    partitions: tuple[Partition, ...]
    frozen: dict[int, str]


def map_channels(graph: Graph) -> ChannelMap:
    """Find the units of a graph."""
    tracker = _Tracker(graph)
    for node in graph.nodes:
        tracker.follow(node)
    tracker.freeze(tracker.activations[graph.output], "the model's output")
    return tracker.resolve()


class _Tracker:
    """Walks the graph once; unions are resolved at the end."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.parents: list[int] = []
        self.inputs: dict[str, Units] = {}
        self.outputs: dict[str, Units] = {}
        self.activations: dict[str, Units] = {graph.input: self.new_units(graph.shapes[graph.input][1])}
        self.constants: dict[str, tuple[int, Units]] = {}
        self.partitions: list[Partition] = []
        self.frozen: dict[int, str] = {}
        self.freeze(self.activations[graph.input], "the model's input")

    def new_units(self, count: int) -> Units:
        """Fresh units, each its own."""
        first = len(self.parents)
        self.parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def freeze(self, units: Units, reason: str) -> None:
        """Say that these units must stay."""
        for unit in units.tolist():
            self.frozen.setdefault(unit, reason)

    def follow(self, node: Node) -> None:
        """Give units to the outputs of one node."""
        sources = [self.activations[name] for name in self.graph.data_inputs(node)]
        follow = _FOLLOWERS.get(node.op)
        if node.op in WEIGHTED_OPS:
            outputs = [self._weighted(node, sources[0])]
        elif node.op in _PASSING:
            outputs = [sources[0]]
        elif follow is not None:
            outputs = [follow(self, node, sources)]
        else:
            outputs = self._unknown(node, sources)
        self.activations.update(zip(node.outputs, outputs, strict=True))

    def _weighted(self, node: Node, source: Units) -> Units:
        weight = self.graph.constants[node.inputs[1]]
        if self.graph.is_depthwise(node):
            made = np.repeat(source, weight.shape[0] // len(source))
        else:
            made = self.new_units(weight.shape[0])
            groups = node.int("group") if node.op == "Conv" else 1
            if groups > 1:
                self.partitions.append(Partition(layer=node.name, parts=source.reshape(groups, -1)))
                self.partitions.append(Partition(layer=node.name, parts=made.reshape(groups, -1)))
        self.inputs[node.name], self.outputs[node.name] = source, made
        return made

    def elementwise(self, node: Node, sources: list[Units]) -> Units:
        """Both sides become one, channel by channel; a constant with channels is cut with them."""
        units = sources[0]
        for other in sources[1:]:
            if len(other) != len(units):
                self.freeze(np.concatenate([units, other]), f"broadcast channels at {node.name}")
                units = max(units, other, key=len)
                continue
            for left, right in zip(units.tolist(), other.tolist(), strict=True):
                self._join(left, right)
        for name in node.inputs:
            if name in self.graph.constants:
                self._constant(name, len(self.graph.shapes[node.output]), units)
        return units

    def _constant(self, name: str, rank: int, units: Units) -> None:
        shape = self.graph.constants[name].shape
        axis = len(shape) - rank + channel_axis(rank)  # that of the result, counted from the constant's own front
        if 0 <= axis < len(shape) and shape[axis] == len(units):
            self.constants[name] = (axis, units)

    def concat(self, node: Node, sources: list[Units]) -> Units:
        """Joined along channels; along another axis the channels are the same ones."""
        if node.int("axis") == channel_axis(len(self.graph.shapes[node.output])):
            return np.concatenate(sources)
        return self.elementwise(node, sources)

    def shuffle(self, node: Node, sources: list[Units]) -> Units:
        """Interleaved, and the groups must stay equal."""
        grouped = sources[0].reshape(node.int("groups"), -1)
        # Interleaving by rank keeps its meaning only if the same places are removed from every group.
        for place in grouped.T.tolist():
            for unit in place[1:]:
                self._join(place[0], unit)
        return grouped.T.reshape(-1)

    def flatten(self, node: Node, sources: list[Units]) -> Units:
        """A channel of a map becomes as many features as it has positions, side by side."""
        shape = self.graph.shapes[node.inputs[0]]
        if len(shape) == TOKEN_RANK and shape[1] > 1:
            return self._unknown(node, sources)[0]
        return np.repeat(sources[0], self.graph.shapes[node.output][1] // len(sources[0]))

    def _unknown(self, node: Node, sources: list[Units]) -> list[Units]:
        """Whatever cuts or moves channels in ways not followed here keeps them all."""
        reason = f"{node.op} at {node.name}"
        for units in sources:
            self.freeze(units, reason)
        made: list[Units] = []
        offset = 0
        for name in node.outputs:
            shape = self.graph.shapes[name]
            count = shape[channel_axis(len(shape))] if len(shape) > 1 else 1
            if node.op == "Split" and node.int("axis") == channel_axis(len(shape)):
                units = sources[0][offset : offset + count]
                offset += count
            else:
                units = self.new_units(count)
                self.freeze(units, reason)
            made.append(units)
        return made

    def _join(self, left: int, right: int) -> None:
        self.parents[self._root(right)] = self._root(left)

    def _root(self, unit: int) -> int:
        while self.parents[unit] != unit:
            self.parents[unit] = self.parents[self.parents[unit]]
            unit = self.parents[unit]
        return unit

    def resolve(self) -> ChannelMap:
        """The map with every unit replaced by the one that stands for all it was joined with."""
        roots = np.array([self._root(unit) for unit in range(len(self.parents))], np.int64)

        def resolved(units: dict[str, Units]) -> dict[str, Units]:
            return {name: roots[each] for name, each in units.items()}

        return ChannelMap(
            inputs=resolved(self.inputs),
            outputs=resolved(self.outputs),
            activations=resolved(self.activations),
            constants={name: (axis, roots[units]) for name, (axis, units) in self.constants.items()},
            partitions=tuple(Partition(layer=each.layer, parts=roots[each.parts]) for each in self.partitions),
            frozen={int(roots[unit]): reason for unit, reason in reversed(self.frozen.items())},
        )


_FOLLOWERS: dict[str, Callable[[_Tracker, Node, list[Units]], Units]] = {
    "Add": _Tracker.elementwise,
    "Mul": _Tracker.elementwise,
    "Concat": _Tracker.concat,
    "ChannelShuffle": _Tracker.shuffle,
    "Flatten": _Tracker.flatten,
}
