"""Take channel shuffles out of a graph by writing the weights around them in another channel order.

A shuffle moves every value of a map and computes nothing, and runtimes are bad at it: in an int8 ShuffleNet V2 on a CPU
it took a third of the time. But which channel lies where is our own choice, as long as the weights that read it agree.
So movements of channels (Concat, Split, Slice, ChannelShuffle) are not carried out but tracked, channel by channel,
until a convolution reads the result. That convolution then reads the channels in the order in which they lie, its
weight's columns permuted to match. What must be cut or joined physically is contiguous: after k units, a ShuffleNet V2
keeps one slice of each earlier unit's output, each half as long as the one before.

Exact: the same products are summed in another order. No weight changes its value, only its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from edgekit.core.graph import Array, Graph, Node

Channel: TypeAlias = tuple[str, int]
"""A channel of an activation that exists: its name and position."""

MAP_RANK = 4
MAX_PIECES = 16
"""Most contiguous pieces that one map is put together from; beyond, a shuffle is cheaper."""

_ORDERLESS_OPS = frozenset(
    {"Relu", "Clip", "Sigmoid", "HardSwish", "HardSigmoid", "MaxPool", "AveragePool", "GlobalAveragePool", "Pad"}
)
"""Operators with one input that treat every channel alike: the order passes through them."""


class _TooScatteredError(Exception):
    """A map would have to be put together from more than MAX_PIECES pieces."""


def unshuffle(graph: Graph) -> Graph:
    """The same function with fewer channel shuffles, none where convolutions can absorb them.

    Activations keep their names and shapes; where channels now lie in another order, the values are the same, permuted.
    The graph is returned as it is when it has no shuffle, or when a map would fall into more than `MAX_PIECES` pieces.
    """
    if all(node.op != "ChannelShuffle" for node in graph.nodes):
        return graph
    try:
        return _Rewriter(graph).rewrite()
    except _TooScatteredError:
        return graph


class _Rewriter:
    """One pass over the nodes: `_orders` says, for every activation in another order, where its channels lie."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = dict(graph.constants)
        self.shapes: dict[str, tuple[int, ...]] = {graph.input: graph.shapes[graph.input]}
        self._orders: dict[str, list[Channel]] = {}
        self._ranks: dict[str, int] = {graph.input: 0}
        self._made: dict[tuple[Channel, ...], str] = {}

    def rewrite(self) -> Graph:
        """The graph with the movements carried out as late as possible."""
        for node in self.graph.nodes:
            if self._is_movement(node):
                self._track(node)
            elif self._reads_any_order(node):
                self._rewrite_reader(node)
            else:
                inputs = [self._in_true_order(name) for name in node.inputs]
                self._emit(node, inputs)
        output = self._in_true_order(self.graph.output)
        used = {name for node in self.nodes for name in node.inputs}
        constants = {name: values for name, values in self.constants.items() if name in used}
        return self.graph.replace(nodes=self.nodes, constants=constants, shapes=self.shapes, output=output)

    def _is_movement(self, node: Node) -> bool:
        if len(self.graph.shapes[node.output]) != MAP_RANK:
            return False
        return node.op == "ChannelShuffle" or (node.op in {"Concat", "Split", "Slice"} and node.int("axis") == 1)

    def _reads_any_order(self, node: Node) -> bool:
        if node.inputs[0] not in self._orders:
            return False
        if node.op == "Conv":
            out_channels, in_per_group = self.graph.constants[node.inputs[1]].shape[:2]
            return node.int("group") == 1 or (in_per_group == 1 and out_channels == node.int("group"))
        return node.op in _ORDERLESS_OPS

    def _channels(self, name: str) -> list[Channel]:
        count = self.graph.shapes[name][1]
        return self._orders.get(name) or [(name, channel) for channel in range(count)]

    def _track(self, node: Node) -> None:
        channels = [channel for name in node.inputs for channel in self._channels(name)]
        if node.op == "ChannelShuffle":
            order = np.arange(len(channels)).reshape(node.int("groups"), -1).T.ravel()
            self._orders[node.output] = [channels[index] for index in order]
        elif node.op == "Split":
            borders = np.cumsum([0, *node.ints("split")])
            for name, start, end in zip(node.outputs, borders[:-1], borders[1:], strict=True):
                self._orders[name] = channels[start:end]
        elif node.op == "Slice":
            self._orders[node.output] = channels[node.int("start") : node.int("end")]
        else:
            self._orders[node.output] = channels

    def _rewrite_reader(self, node: Node) -> None:
        """Read the channels in the order in which they lie; true channel `order[i]` comes to place i."""
        name = node.inputs[0]
        channels = self._orders[name]
        order = sorted(range(len(channels)), key=lambda index: (self._ranks[channels[index][0]], channels[index][1]))
        if len(_pieces(channels)) <= len(_pieces([channels[index] for index in order])):
            order = list(range(len(channels)))
        source = self._join([channels[index] for index in order], name)
        inputs = [source, *node.inputs[1:]]
        is_permuted = order != sorted(order)
        if node.op == "Conv" and is_permuted:
            inputs[1:] = self._permute_constants(node, order)
        self._emit(node, inputs)
        if is_permuted and not (node.op == "Conv" and node.int("group") == 1):
            places = np.argsort(order)
            self._orders[node.output] = [(node.output, int(place)) for place in places]

    def _permute_constants(self, node: Node, order: Sequence[int]) -> list[str]:
        """The constants of a Conv for input channels in that order. A shared constant gets a name of its own."""
        is_depthwise = node.int("group") > 1
        names: list[str] = []
        for name in node.inputs[1:]:
            values = self.graph.constants[name]
            is_shared = sum(name in other.inputs for other in self.graph.nodes) > 1
            new_name = f"{name}.{node.name}" if is_shared else name
            if is_depthwise:
                self.constants[new_name] = np.ascontiguousarray(values[order])
            elif values.ndim == MAP_RANK:
                self.constants[new_name] = np.ascontiguousarray(values[:, order])
            else:
                new_name = name
            names.append(new_name)
        return names

    def _in_true_order(self, name: str) -> str:
        """The name of an activation whose channels lie in the graph's own order."""
        channels = self._orders.get(name)
        return name if channels is None else self._join(channels, name)

    def _join(self, channels: list[Channel], name: str) -> str:
        """An activation of just these channels: one whole one shuffled, or contiguous pieces of several."""
        key = tuple(channels)
        if key not in self._made:
            groups = self._shuffle_groups(channels)
            self._made[key] = self._shuffle(channels[0][0], groups, name) if groups else self._gather(channels, name)
        return self._made[key]

    def _shuffle(self, source: str, groups: int, name: str) -> str:
        made = self._unused(name)
        node = Node(name=made, op="ChannelShuffle", inputs=(source,), outputs=(made,), attrs={"groups": groups})
        self._append(node, self.shapes[source])
        return made

    def _gather(self, channels: list[Channel], name: str) -> str:
        pieces = _pieces(channels)
        if len(pieces) > MAX_PIECES:
            raise _TooScatteredError
        inputs = tuple(self._cut(source, start, end) for source, start, end in pieces)
        if len(inputs) == 1:
            return inputs[0]
        made = self._unused(name)
        node = Node(name=made, op="Concat", inputs=inputs, outputs=(made,), attrs={"axis": 1})
        self._append(node, self._shape_of(name, len(channels)))
        return made

    def _cut(self, source: str, start: int, end: int) -> str:
        if (start, end) == (0, self.shapes[source][1]):
            return source
        key = tuple((source, channel) for channel in range(start, end))
        if key not in self._made:
            name = self._unused(f"{source}.{start}_{end}")
            attrs = {"axis": 1, "start": start, "end": end}
            node = Node(name=name, op="Slice", inputs=(source,), outputs=(name,), attrs=attrs)
            self._append(node, self._shape_of(source, end - start))
            self._made[key] = name
        return self._made[key]

    def _shuffle_groups(self, channels: list[Channel]) -> int:
        """Groups, if the channels are a shuffle of one whole activation; otherwise 0."""
        source, order = channels[0][0], [channel for _, channel in channels]
        count = self.shapes[source][1]
        if len(order) != count or any(other != source for other, _ in channels) or count == 1 or order[1] < 2:
            return 0
        groups, rest = divmod(count, order[1])
        shuffled = [] if rest else np.arange(count).reshape(groups, -1).T.ravel().tolist()
        return groups if order == shuffled else 0

    def _shape_of(self, name: str, num_channels: int) -> tuple[int, ...]:
        shape = self.graph.shapes[name] if name in self.graph.shapes else self.shapes[name]
        return (shape[0], num_channels, *shape[2:])

    def _unused(self, name: str) -> str:
        taken = self.shapes
        return name if name not in taken else next(n for n in (f"{name}.{i}" for i in range(2, 999)) if n not in taken)

    def _emit(self, node: Node, inputs: Sequence[str]) -> None:
        copy = Node(name=node.name, op=node.op, inputs=tuple(inputs), outputs=node.outputs, attrs=node.attrs)
        self._append(copy, *(self.graph.shapes[name] for name in node.outputs))

    def _append(self, node: Node, *shapes: tuple[int, ...]) -> None:
        self.nodes.append(node)
        for name, shape in zip(node.outputs, shapes, strict=True):
            self.shapes[name] = shape
            self._ranks[name] = len(self.nodes)


def _pieces(channels: Sequence[Channel]) -> list[tuple[str, int, int]]:
    """Contiguous runs of channels: source, start, end.

    >>> _pieces([("a", 2), ("a", 3), ("b", 0), ("a", 4)])
    [('a', 2, 4), ('b', 0, 1), ('a', 4, 5)]
    """
    pieces: list[tuple[str, int, int]] = []
    for source, channel in channels:
        if pieces and pieces[-1][0] == source and pieces[-1][2] == channel:
            pieces[-1] = (source, pieces[-1][1], channel + 1)
        else:
            pieces.append((source, channel, channel + 1))
    return pieces
