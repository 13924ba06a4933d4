"""From what a front end built to the canonical hub graph. Pure functions: a graph in, another graph out."""

from __future__ import annotations

import math

import msgspec

from edgekit.core.errors import GraphError, UnsupportedOpError
from edgekit.core.graph import Graph, Node
from edgekit.export.attention import fuse_attention, fuse_gelu
from edgekit.export.builder import unique_name
from edgekit.export.folding import batch_norm_as_depthwise, fold_affine, fold_batch_norm
from edgekit.export.fusion import (
    fuse_channel_shuffle,
    fuse_clip,
    fuse_hard_activations,
    global_average_pool,
    merge_pad,
    merge_slices,
    simplify_views,
)
from edgekit.export.sweep import SweepRule, eliminate_dead, sweep_graph

__all__ = [
    "CANONICAL_RULES",
    "canonicalize",
    "classifier_output",
    "eliminate_dead",
    "fold_batch_norm",
    "require_canonical",
]

PARTIAL_OPS = frozenset({"Erf", "MatMul"})
"""Operators that are canonical only once they are a part of `Gelu` or `Attention`."""

CANONICAL_RULES: tuple[SweepRule, ...] = (
    fuse_channel_shuffle,
    fuse_hard_activations,
    fold_affine,
    batch_norm_as_depthwise,
    fuse_clip,
    merge_pad,
    global_average_pool,
    simplify_views,
)

TRANSFORMER_RULES: tuple[SweepRule, ...] = (fuse_gelu, fuse_attention)
"""Before all others: views of one head, which move nothing, are dropped by those, and scales folded into layers."""


def canonicalize(graph: Graph) -> Graph:
    """The canonical form that `edgekit.core.graph` describes.

    Runs the rules until nothing changes any more: dropping one node can bring two others together.
    """
    current = eliminate_dead(graph)
    if any(node.op in PARTIAL_OPS for node in current.nodes):
        current = eliminate_dead(sweep_graph(current, TRANSFORMER_RULES))
    while True:
        following = eliminate_dead(merge_slices(sweep_graph(current, CANONICAL_RULES)))
        if following.nodes == current.nodes:
            return following
        current = following


def require_canonical(graph: Graph) -> Graph:
    """The graph itself, if every part of a GELU or of attention was recognized.

    Raises:
        UnsupportedOpError: An operator that stands for nothing by itself; names the node.
    """
    left = next((node for node in graph.nodes if node.op in PARTIAL_OPS), None)
    if left is not None:
        raise UnsupportedOpError(
            f"operator {left.op} of node {left.name!r} is supported only as a part of GELU or of attention",
            hint="export the model with these in their usual form: exact GELU; heads split by Reshape and Transpose",
        )
    return graph


def classifier_output(graph: Graph) -> Graph:
    """Make the output logits [1, classes]; a [1, classes, 1, 1] map (fully convolutional heads) gets a Flatten.

    A softmax at the end is left out: whoever asks for probabilities takes it once, and an int8 softmax has no more than
    256 values, on which many classes tie.

    Raises:
        GraphError: The output is no vector of class scores.
    """
    graph = _without_last_softmax(graph)
    shape = graph.shapes[graph.output]
    if len(shape) == 2:
        return graph
    if any(size != 1 for size in shape[2:]) or len(shape) < 2:
        raise GraphError(
            f"output {graph.output!r} has shape {shape}; expected one score per class, [1, classes]",
            hint="only classifiers are supported; check the input size if the model is fully convolutional",
        )
    taken = {node.name for node in graph.nodes} | graph.shapes.keys()
    name = unique_name("flatten", taken)
    flatten = Node(name=name, op="Flatten", inputs=(graph.output,), outputs=(name,))
    return graph.replace(
        nodes=(*graph.nodes, flatten), shapes=dict(graph.shapes) | {name: (shape[0], shape[1])}, output=name
    )


def _without_last_softmax(graph: Graph) -> Graph:
    """The graph without a softmax over the classes at its end; a Flatten or Reshape may stand behind it."""
    makers = {output: node for node in graph.nodes for output in node.outputs}
    last, view = makers.get(graph.output), None
    if last is not None and last.op in {"Flatten", "Reshape"}:
        last, view = makers.get(last.inputs[0]), last
    if last is None or last.op != "Softmax":
        return graph
    (logits,) = last.inputs
    shape = graph.shapes[logits]
    if last.int("axis") % len(shape) != 1 or math.prod(shape[2:]) != 1:
        return graph
    if view is None:
        return eliminate_dead(graph.replace(output=logits))
    moved = msgspec.structs.replace(view, inputs=(logits, *view.inputs[1:]))
    return eliminate_dead(graph.replace(nodes=tuple(moved if node is view else node for node in graph.nodes)))
