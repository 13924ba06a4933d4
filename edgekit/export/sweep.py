"""One pass over a graph in execution order, during which rules replace, merge or drop nodes.

A rule sees the nodes before it in their already rewritten form, so chains (Conv, Mul, Add, BatchNorm) fold in one go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from edgekit.core.graph import WEIGHTED_OPS, Array, Attribute, Graph, Node
from edgekit.export.builder import unique_name
from edgekit.export.shapes import Shape, infer_shapes


class Sweep:
    """The rewritten part of a graph so far.

    Args:
        graph: The graph that is swept; it is not changed.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, Node] = {}
        self.constants: dict[str, Array] = dict(graph.constants)
        self.shapes: dict[str, Shape] = dict(graph.shapes)
        self._producers: dict[str, str] = {}
        self._alias: dict[str, str] = {}
        self._uses: Counter[str] = Counter(name for node in graph.nodes for name in node.inputs)
        self._uses[graph.output] += 1
        self._taken = {node.name for node in graph.nodes} | self.shapes.keys() | self.constants.keys()

    def is_constant(self, name: str) -> bool:
        """Whether a name is a constant."""
        return name in self.constants

    def producer(self, name: str) -> Node | None:
        """The rewritten node that makes an activation; None for the graph input and for constants."""
        node_name = self._producers.get(name)
        return None if node_name is None else self.nodes[node_name]

    def producer_if(self, name: str, *ops: str) -> Node | None:
        """The producer if it is one of the operators, else None."""
        node = self.producer(name)
        return node if node is not None and node.op in ops else None

    def used_once(self, name: str) -> bool:
        """Whether exactly one reader (a node, or the graph's output) needs the value."""
        return self._uses[name] == 1

    def shape(self, name: str) -> Shape:
        """Shape of an activation or a constant."""
        return self.shapes[name] if name in self.shapes else self.constants[name].shape

    def emit(self, node: Node) -> None:
        """Append a node, or replace the one of the same name; its output shapes are inferred.

        Numbers become what float32, the type of every file format, makes of them: a written and read graph is equal.
        """
        if any(isinstance(value, float) for value in node.attrs.values()):
            attrs = {
                key: float(np.float32(value)) if isinstance(value, float) else value
                for key, value in node.attrs.items()
            }
            node = Node(name=node.name, op=node.op, inputs=node.inputs, outputs=node.outputs, attrs=attrs)
        self.shapes.update(zip(node.outputs, infer_shapes(node, _Shapes(self)), strict=True))
        self.nodes[node.name] = node
        self._producers.update(dict.fromkeys(node.outputs, node.name))

    def emit_as(self, node: Node, op: str, inputs: Sequence[str], attrs: Mapping[str, Attribute] | None = None) -> bool:
        """Put another operator in a node's place (same name, same output). Always True, for rules to return."""
        self.emit(Node(name=node.name, op=op, inputs=tuple(inputs), outputs=node.outputs, attrs=dict(attrs or {})))
        self._uses.update(inputs)
        return True

    def forward(self, dropped: str, kept: str) -> bool:
        """Let every later reader of `dropped` read `kept`. Always True, for rules to return."""
        self._alias[dropped] = kept
        self._uses[kept] += self._uses[dropped] - 1
        return True

    def resolve(self, name: str) -> str:
        """The name under which a value of the old graph lives now."""
        while name in self._alias:
            name = self._alias[name]
        return name

    def add_constant(self, wanted: str, array: Array, *, instead_of: str | None = None) -> str:
        """Store a float32 constant and return its name.

        Args:
            wanted: Its name if that is free; made unique otherwise.
            array: Its content.
            instead_of: A constant that it supersedes: takes its name if nobody else reads that.
        """
        content = np.ascontiguousarray(array, dtype=np.float32)
        if instead_of is not None and self._uses[instead_of] <= 1:
            self.constants[instead_of] = content
            return instead_of
        name = unique_name(wanted, self._taken)
        self._taken.add(name)
        self._uses[name] = 1
        self.constants[name] = content
        return name

    def finish(self) -> Graph:
        """The rewritten graph."""
        return self.graph.replace(
            nodes=self.nodes.values(),
            constants=self.constants,
            shapes=self.shapes,
            output=self.resolve(self.graph.output),
        )


class _Shapes(Mapping[str, Shape]):
    """Shapes of activations and constants under one roof."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep

    def __getitem__(self, name: str) -> Shape:
        return self._sweep.shape(name)

    def __iter__(self) -> Iterator[str]:
        yield from self._sweep.shapes
        yield from self._sweep.constants

    def __len__(self) -> int:
        return len(self._sweep.shapes) + len(self._sweep.constants)


SweepRule = Callable[[Sweep, Node], bool]
"""Looks at one node; True when it dealt with it, False when it left it alone."""


def sweep_graph(graph: Graph, rules: Sequence[SweepRule]) -> Graph:
    """Rewrite a graph: the first rule that takes a node decides, a node that none takes stays."""
    sweep = Sweep(graph)
    for node in graph.nodes:
        inputs = tuple(sweep.resolve(name) for name in node.inputs)
        current = node if inputs == node.inputs else _with_inputs(node, inputs)
        if not any(rule(sweep, current) for rule in rules):
            sweep.emit(current)
    return sweep.finish()


def eliminate_dead(graph: Graph) -> Graph:
    """Drop nodes, constants and shapes that the output does not depend on; the rest is put in order of use."""
    needed = {graph.output}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    kept.reverse()
    made = (graph.input, *(output for node in kept for output in node.outputs))
    read = dict.fromkeys(name for node in kept for name in node.inputs if name in graph.constants)
    return graph.replace(
        nodes=kept,
        constants={name: graph.constants[name] for name in read},
        shapes={name: graph.shapes[name] for name in made},
    )


def _with_inputs(node: Node, inputs: tuple[str, ...]) -> Node:
    return Node(name=node.name, op=node.op, inputs=inputs, outputs=node.outputs, attrs=node.attrs)


def is_weighted(node: Node | None) -> bool:
    """Whether a node is a Conv or a Gemm."""
    return node is not None and node.op in WEIGHTED_OPS
