"""What kernels can compute with: bounds on the multiplier that takes accumulators to an output's grid.

XNNPACK refuses an int8 layer whose `input scale * weight scale / output scale` is not within 2**-32 and 2**8, and then
the whole file does not load. Ordinary networks are far from both ends; a layer whose output hardly moved on the
calibration pictures (a single black one, a branch that cancels) is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from edgekit.core.graph import WEIGHTED_OPS, Graph, Node
from edgekit.core.quant import QuantParams
from edgekit.quantize.plan import SHARING_OPS, QuantizationPlan

MAX_BIAS = 1 << 30
"""Largest bias in units of its grid: half of int32, the other half is head-room for the products that add to it."""

SMALLEST_MULTIPLIER = 2.0**-30
"""Smallest multiplier of a layer; TFLite rounds one below 2**-31 to zero."""

LARGEST_MULTIPLIER = 2.0**7
"""Largest multiplier: one unit of the accumulator then moves the output by half of its grid already."""


def widen_tiny_grids(
    graph: Graph,
    plan: QuantizationPlan,
    grids: Mapping[str, QuantParams],
    constants: Mapping[str, QuantParams],
) -> dict[str, QuantParams]:
    """Raise activation scales so far below their producer's that no kernel reaches them.

    The zero-point stays, so the range widens in proportion. Little is lost: all 255 steps of such a grid together span
    less than two units of the layer's exact result (of its channel of the largest weights).

    Args:
        graph: The graph.
        plan: Its plan.
        grids: Activation grids.
        constants: Grids of weights, and of constant operands.

    Returns:
        All activation grids; those that share one still do.
    """
    widened = dict(grids)
    for _ in plan.groups:  # raising a grid that a later layer shares may call for another round; almost never does
        raised = _raise_scales(graph, plan, widened, constants)
        if raised == 0:
            break
    return widened


def _raise_scales(
    graph: Graph, plan: QuantizationPlan, grids: dict[str, QuantParams], constants: Mapping[str, QuantParams]
) -> int:
    """One round over the nodes; changes `grids` and returns how many were too fine."""
    groups = {name: group for group in plan.groups for name in group.members}
    num_raised = 0
    for node in graph.nodes:
        group = groups[plan.fused.get(node.output, node.output)]
        if node.op in SHARING_OPS or group.is_fixed:
            continue
        grid = grids[group.members[0]]
        smallest = np.float32(_step(graph, node, grids, constants) / LARGEST_MULTIPLIER)
        if grid.scale[0] < smallest:
            raised = msgspec.structs.replace(grid, scale=np.array([smallest], dtype=np.float32))
            grids.update(dict.fromkeys(group.members, raised))
            num_raised += 1
    return num_raised


def _step(graph: Graph, node: Node, grids: Mapping[str, QuantParams], constants: Mapping[str, QuantParams]) -> float:
    """What one unit of a node's exact result is worth, at most over its channels.

    A layer's unit is no finer than its bias allows (`MAX_BIAS`).
    """
    operands = node.inputs[:2] if node.op in WEIGHTED_OPS else node.inputs
    scales = [float((grids[name] if name in grids else constants[name]).scale.max()) for name in operands]
    if node.op not in WEIGHTED_OPS:
        return math.prod(scales) if node.op == "Mul" else max(scales)
    biases = [float(np.abs(graph.constants[name]).max()) for name in node.inputs[2:]]
    return max(math.prod(scales), *(bias / MAX_BIAS for bias in biases), 0.0)
