"""Two files of one decision: equal integers, equal scales."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.graph import WEIGHTED_OPS, Graph, Node
from edgekit.export.stored import StoredFile, StoredTensor


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What two files disagree on.

    Args:
        layer: Name of the layer, or of the activation.
        what: In words.
    """

    layer: str
    what: str


def first_difference(
    graph: Graph, first: StoredFile, second: StoredFile, *, weights_only: bool = False
) -> Difference | None:
    """The first constant or activation on which an ONNX and a TFLite file differ; None if they hold the same.

    Compared are the integers and scales of all weights and biases, and scale and zero-point of every activation that
    both files show (each format hides some: fused or rim tensors).

    Args:
        graph: Float graph that both were made from.
        first: The ONNX file.
        second: The TFLite file, whose Gemm weights may be in NHWC order behind a flattened map.
        weights_only: Biases are float in both files, as dynamic schemes have them.
    """
    for node in graph.nodes:
        if node.op not in WEIGHTED_OPS:
            continue
        for name in node.inputs[1:2] if weights_only else node.inputs[1:]:
            if name not in first.constants or name not in second.constants:
                return Difference(layer=node.name, what=f"{name} is in only one of the files as integers")
            what = _difference(first.constants[name], second.constants[name], _flattened_shape(graph, node))
            if what:
                return Difference(layer=node.name, what=f"{what} of {name} differ")
    for name, (scale, zero_point) in first.activations.items():
        other = second.activations.get(name)
        if other is not None and (zero_point != other[1] or not np.isclose(scale, other[0], rtol=1e-6, atol=0)):
            grids = f"({scale:g}, {zero_point}) against ({other[0]:g}, {other[1]})"
            return Difference(layer=name, what=f"scale and zero-point of activation {name} differ: {grids}")
    return None


def _flattened_shape(graph: Graph, node: Node) -> tuple[int, ...] | None:
    """[C, H, W] of the map that a Gemm sees flattened; None where there is none."""
    producer = graph.producers().get(node.inputs[0])
    if node.op != "Gemm" or producer is None or producer.op not in {"Flatten", "Reshape"}:
        return None
    shape = graph.shapes[producer.inputs[0]]
    return shape[1:] if len(shape) == 4 else None


def _difference(first: StoredTensor, second: StoredTensor, flattened: tuple[int, ...] | None) -> str | None:
    """What differs between two stored tensors: "integers" or "scales"; None if nothing does."""
    orders = [first.values]
    if flattened is not None and first.values.ndim == 2:
        rows = first.values.shape[0]
        orders.append(first.values.reshape(rows, *flattened).transpose(0, 2, 3, 1).reshape(rows, -1))
    if not any(_equal(values, second.values) for values in orders):
        return "integers"
    if first.scale.size != second.scale.size or not np.allclose(first.scale, second.scale, rtol=1e-6, atol=0):
        return "scales"
    return None


def _equal(a: npt.NDArray[np.integer], b: npt.NDArray[np.integer]) -> bool:
    """Equal up to dimensions of length 1, which the formats write differently."""
    return a.size == b.size and a.shape[:1] == b.shape[:1] and np.array_equal(a.reshape(b.shape), b)
