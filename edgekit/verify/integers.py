"""Two files of one decision: equal integers, equal scales."""

from __future__ import annotations

import numpy as np

from edgekit.core.graph import WEIGHTED_OPS, Graph
from edgekit.export.stored import StoredFile, StoredTensor


def first_difference(graph: Graph, first: StoredFile, second: StoredFile) -> str | None:
    """The first constant or activation on which two files differ, with what differs; None if they hold the same.

    Compared are the integers and scales of all weights and biases, and scale and zero-point of every activation that
    both files show (each format hides some: fused or rim tensors).
    """
    for node in graph.nodes:
        if node.op not in WEIGHTED_OPS:
            continue
        for name in node.inputs[1:]:
            if name not in first.constants or name not in second.constants:
                return f"{node.name}: {name} is in only one of the files"
            what = _difference(first.constants[name], second.constants[name])
            if what:
                return f"{node.name}: {what} of {name} differ"
    for name, (scale, zero_point) in first.activations.items():
        other = second.activations.get(name)
        if other is not None and (zero_point != other[1] or not np.isclose(scale, other[0], rtol=1e-6, atol=0)):
            return f"activation {name}: grid ({scale:g}, {zero_point}) against ({other[0]:g}, {other[1]})"
    return None


def _difference(first: StoredTensor, second: StoredTensor) -> str | None:
    """What differs between two stored tensors: "integers" or "scales"; None if nothing does."""
    # A Gemm after a flattened map has its columns in NHWC order in TFLite: the same integers, each row reordered.
    a, b = first.values, second.values
    if a.size != b.size or a.shape[:1] != b.shape[:1]:
        return "integers"
    if not np.array_equal(a.reshape(b.shape), b):
        rows_a, rows_b = np.sort(a.reshape(a.shape[0], -1), axis=1), np.sort(b.reshape(b.shape[0], -1), axis=1)
        if a.ndim != 2 or not np.array_equal(rows_a, rows_b):
            return "integers"
    if first.scale.size != second.scale.size or not np.allclose(first.scale, second.scale, rtol=1e-6, atol=0):
        return "scales"
    return None
