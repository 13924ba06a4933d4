"""A graph under construction: unique names, shapes known at once. Both front ends (torch, ONNX) build with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.core.graph import Array, Attribute, Graph, Node
from edgekit.export.shapes import Shape, infer_shapes


@dataclass(frozen=True, slots=True)
class Value:
    """An activation: what flows along an edge while a front end walks a model.

    Args:
        name: Its name in the graph.
        shape: Its shape, batch 1.
    """

    name: str
    shape: Shape


def unique_name(wanted: str, taken: Collection[str]) -> str:
    """`wanted`, or the first of `wanted_1`, `wanted_2`, ... that is free.

    >>> unique_name("relu", {"relu", "relu_1"})
    'relu_2'
    """
    if wanted not in taken:
        return wanted
    number = 1
    while f"{wanted}_{number}" in taken:
        number += 1
    return f"{wanted}_{number}"


class GraphBuilder:
    """Collects nodes in execution order.

    Args:
        name: Model name.
        input: The one input and its shape [1, C, H, W].
    """

    def __init__(self, name: str, input: Value) -> None:
        self.name = name
        self.input = input
        self.nodes: dict[str, Node] = {}
        self.constants: dict[str, Array] = {}
        self.shapes: dict[str, Shape] = {input.name: input.shape}

    def constant(self, wanted: str, array: Array) -> str:
        """Add a float32 constant and return its name; the same array under the same name is stored once."""
        content = np.ascontiguousarray(array, dtype=np.float32)
        known = self.constants.get(wanted)
        if known is not None and known.shape == content.shape and np.array_equal(known, content, equal_nan=True):
            return wanted
        name = unique_name(wanted, self.constants.keys() | self.shapes.keys())
        self.constants[name] = content
        return name

    def add(
        self,
        op: str,
        name: str,
        inputs: Sequence[str],
        attrs: Mapping[str, Attribute] | None = None,
        *,
        outputs: Sequence[str] | None = None,
    ) -> tuple[Value, ...]:
        """Append a node.

        Args:
            op: Canonical operator.
            name: Wanted node name; made unique.
            inputs: Names of activations, then of constants.
            attrs: Canonical attributes.
            outputs: Wanted names of its outputs, made unique; None names the one output like the node.

        Returns:
            The outputs, in order.

        Raises:
            GraphError, UnsupportedOpError: As `infer_shapes`.
        """
        node_name = unique_name(name, self.nodes.keys())
        taken = self.constants.keys() | self.shapes.keys()
        names = [unique_name(output, taken) for output in (outputs or (node_name,))]
        node = Node(name=node_name, op=op, inputs=tuple(inputs), outputs=tuple(names), attrs=dict(attrs or {}))
        known = {
            source: self.shapes[source] if source in self.shapes else self.constants[source].shape for source in inputs
        }
        results = infer_shapes(node, known)
        self.nodes[node_name] = node
        self.shapes.update(zip(names, results, strict=True))
        return tuple(Value(output, shape) for output, shape in zip(names, results, strict=True))

    def build(self, output: str) -> Graph:
        """The finished graph, not yet canonical (`edgekit.export.passes.canonicalize`)."""
        return Graph(
            name=self.name,
            input=self.input.name,
            output=output,
            nodes=tuple(self.nodes.values()),
            constants=self.constants,
            shapes=self.shapes,
        )
