"""Where the output channels of a layer go: the layers that read them, and what lies between.

A channel may be divided by s in the layer that makes it and multiplied by s in every layer that reads it, if all that
lies between commutes with a positive factor per channel (Nagel et al. 2019, eq. 5: f(s x) = s f(x)). ReLU, pooling,
zero padding, moving and joining channels do; so does a Clip from 0 as long as the channel stays below its upper end.
Add, Mul, Sigmoid, HardSwish and Softmax do not, and neither does an activation that is the graph's output.

Similarly a constant may be taken off a channel and put back into the biases of its readers where all that lies between
commutes with adding a constant. Zero padding does not: the padding would have to become minus that constant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.graph import WEIGHTED_OPS, Graph, Node

Owners: TypeAlias = npt.NDArray[np.int64]
"""Per channel of an activation, the output channel of the link's layer that it carries; -1 if of another origin."""

FOREIGN = -1
"""Owner of a channel that another layer made."""


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """A Conv or Gemm that reads channels of a link.

    Args:
        layer: Its node name.
        input: The activation that it reads.
        owners: int64 [input channels].
    """

    layer: str
    input: str
    owners: Owners


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A layer whose output channels may be scaled, and everything that reads them.

    Args:
        layer: Node name of the Conv or Gemm that makes the channels.
        output: Its output activation, before any Relu or Clip.
        num_channels: Of the output.
        readers: At least one.
        limit: Smallest upper end of a Clip on the way; infinity if there is none.
        is_rectified: A Relu or Clip lies on the way.
        is_shiftable: Nothing on the way, padding of the readers included, tells zero from other values but the Relu.
    """

    layer: str
    output: str
    num_channels: int
    readers: tuple[Reader, ...]
    limit: float
    is_rectified: bool
    is_shiftable: bool


def find_links(graph: Graph) -> tuple[Link, ...]:
    """Every layer whose output channels may be scaled, in execution order.

    Args:
        graph: Canonical float graph; no two layers share a constant (`ptq.unshare_constants`).
    """
    walk = _Walk(graph)
    links = (walk.follow(node) for node in graph.nodes if node.op in WEIGHTED_OPS)
    return tuple(link for link in links if link is not None)


class _Walk:
    """Follows channels forward from one layer at a time."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._consumers = graph.consumers()
        self._start()

    def _start(self) -> None:
        self._readers: list[Reader] = []
        self._limit = np.inf
        self._is_rectified = False
        self._is_shiftable = True

    def follow(self, node: Node) -> Link | None:
        """The link of a layer; None if its channels reach something that no factor passes through."""
        self._start()
        num_channels = self.graph.shapes[node.output][1]
        if not self._visit(node.output, np.arange(num_channels)) or not self._readers:
            return None
        return Link(
            layer=node.name,
            output=node.output,
            num_channels=num_channels,
            readers=tuple(self._readers),
            limit=float(self._limit),
            is_rectified=self._is_rectified,
            is_shiftable=self._is_shiftable,
        )

    def _visit(self, name: str, owners: Owners) -> bool:
        if (owners == FOREIGN).all():
            return True  # none of the layer's channels: may go anywhere
        if name == self.graph.output:
            return False
        readers = {node.name: node for node in self._consumers.get(name, [])}
        return all(self._pass(node, name, owners) for node in readers.values())

    def _pass(self, node: Node, name: str, owners: Owners) -> bool:
        """Go through a node that reads `name`; False if no factor passes."""
        if node.op in WEIGHTED_OPS:
            self._readers.append(Reader(layer=node.name, input=name, owners=owners))
            self._is_shiftable &= node.op == "Gemm" or not any(node.ints("pads"))
            return node.inputs[1] in self.graph.constants
        if node.op == "Split":
            return self._split(node, owners)
        if not self._activate(node):
            return False
        move = _MOVES.get(node.op)
        moved = None if move is None else move(self.graph, node, name, owners)
        return moved is not None and self._visit(node.output, moved)

    def _activate(self, node: Node) -> bool:
        """Note what an activation or a padding does to factors and shifts; False if no factor passes."""
        if node.op == "Pad":
            self._is_shiftable = False
            return node.float("value") == 0
        if node.op == "AveragePool":
            self._is_shiftable &= not any(node.ints("pads")) or not node.int("count_include_pad")
        elif node.op == "Relu":
            self._is_rectified = True
        elif node.op == "Clip":
            self._is_rectified = True
            self._limit = min(self._limit, node.float("max"))
            return node.float("min") == 0 < node.float("max")
        return True

    def _split(self, node: Node, owners: Owners) -> bool:
        parts = [owners] * len(node.outputs)
        if node.int("axis") == 1:
            parts = np.split(owners, np.cumsum(node.ints("split"))[:-1])
        return all(self._visit(name, part) for name, part in zip(node.outputs, parts, strict=True))


def _stay(_graph: Graph, _node: Node, _name: str, owners: Owners) -> Owners | None:
    return owners


def _shuffle(_graph: Graph, node: Node, _name: str, owners: Owners) -> Owners | None:
    return owners.reshape(node.int("groups"), -1).T.reshape(-1)


def _flatten(graph: Graph, node: Node, name: str, owners: Owners) -> Owners | None:
    """Flatten, and a Reshape that does the same: every channel becomes its map's positions, in a row."""
    shape = graph.shapes[name]
    size = int(np.prod(shape[2:]))
    target = graph.shapes[node.output]
    if target[1] == len(owners) and len(target) > 1:
        return owners  # reshapes maps only, or nothing
    return np.repeat(owners, size) if target == (shape[0], len(owners) * size) else None


def _slice(_graph: Graph, node: Node, _name: str, owners: Owners) -> Owners | None:
    return owners[node.int("start") : node.int("end")] if node.int("axis") == 1 else owners


def _concat(graph: Graph, node: Node, name: str, owners: Owners) -> Owners | None:
    if node.int("axis") != 1 or any(part in graph.constants for part in node.inputs):
        return None
    foreign = [np.full(graph.shapes[part][1], FOREIGN) for part in node.inputs]
    return np.concatenate([owners if part == name else other for part, other in zip(node.inputs, foreign, strict=True)])


_MOVES: dict[str, Callable[[Graph, Node, str, Owners], Owners | None]] = {
    "Relu": _stay,
    "Clip": _stay,
    "MaxPool": _stay,
    "AveragePool": _stay,
    "GlobalAveragePool": _stay,
    "Pad": _stay,
    "ChannelShuffle": _shuffle,
    "Flatten": _flatten,
    "Reshape": _flatten,
    "Slice": _slice,
    "Concat": _concat,
}
"""Operators that a positive factor per channel passes through, and where they take the channels; None for nowhere."""
