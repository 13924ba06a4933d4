"""Decide, before anything is written, which nodes become one TFLite operator, and which tensors cannot be negative."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType

from edgekit.core.graph import Graph, Node
from edgekit.core.quant import QuantParams

MAP_RANK = 4
FUSING_OPS = frozenset({"Conv", "Gemm", "Add", "Mul", "MaxPool", "AveragePool"})
"""Operators whose TFLite form carries a fused activation."""

ACTIVATION_RANGES: Mapping[tuple[float, float], int] = {
    (0.0, math.inf): ActivationFunctionType.RELU,
    (0.0, 6.0): ActivationFunctionType.RELU6,
    (-1.0, 1.0): ActivationFunctionType.RELU_N1_TO_1,
}

_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax"})
_KEEPS_SIGN = frozenset(
    {
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Concat",
        "Split",
        "Slice",
        "ChannelShuffle",
        "Flatten",
        "Reshape",
        "Transpose",
        "Add",
        "Mul",
        "HardSwish",
        "LRN",
    }
)
"""Operators whose output is nowhere negative if no input is (constants are checked apart)."""


class Fusion(msgspec.Struct, frozen=True, kw_only=True):
    """What a node swallows.

    Args:
        output: Activation name that the joint operator makes: that of the last node swallowed.
        activation: TFLite `ActivationFunctionType` of the joint operator.
    """

    output: str
    activation: int = ActivationFunctionType.NONE


class FusionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which nodes are lowered together.

    Args:
        fusions: Node name -> what it swallows. Nodes that are absent stand alone.
        stacks: Node name of a ChannelShuffle -> the activations that a Concat before it would have joined.
        absorbed: Names of the nodes that were swallowed and are not lowered themselves.
    """

    fusions: Mapping[str, Fusion]
    stacks: Mapping[str, tuple[str, ...]]
    absorbed: frozenset[str]


def clip_range(node: Node) -> tuple[float, float] | None:
    """The interval that a Relu or Clip limits its input to; None for every other operator."""
    if node.op == "Relu":
        return (0.0, math.inf)
    if node.op == "Clip":
        return (node.float("min"), node.float("max"))
    return None


def plan_fusions(graph: Graph, grids: Mapping[str, QuantParams] | None) -> FusionPlan:
    """Fuse activations into producers, a Flatten into the global pool before it, a Concat into the shuffle after it.

    The two views that turn a map to tokens become one. An activation is fused when it is the only reader of its
    producer's output and TFLite has a name for its range. In a quantized graph there is one more condition, because the
    integers are decided already: the producer's output must have no grid of its own. There a range without a name fuses
    too, if the output's grid reaches no further.

    Args:
        graph: The network.
        grids: Activation grids of a quantized graph; None for float.
    """
    consumers = graph.consumers()
    fusions: dict[str, Fusion] = {}
    stacks: dict[str, tuple[str, ...]] = {}
    absorbed: set[str] = set()
    for node in graph.nodes:
        readers = consumers.get(node.output, [])
        if len(node.outputs) != 1 or len(readers) != 1 or node.output == graph.output:
            continue
        reader = readers[0]
        if _is_stack(graph, node, reader):
            stacks[reader.name] = node.inputs
            absorbed.add(node.name)
            continue
        fusion = _fuse_views(graph, node, reader) or _fuse_pair(node, reader, grids)
        if fusion is not None:
            fusions[node.name] = fusion
            absorbed.add(reader.name)
    return FusionPlan(fusions=fusions, stacks=stacks, absorbed=frozenset(absorbed))


def _is_stack(graph: Graph, node: Node, reader: Node) -> bool:
    """Whether a Concat joins just the groups that a ChannelShuffle then interleaves (ShuffleNet V2, figure 3)."""
    if node.op != "Concat" or reader.op != "ChannelShuffle" or node.int("axis") != 1:
        return False
    same_shape = len({graph.shapes[name] for name in node.inputs}) == 1
    return same_shape and len(node.inputs) == reader.int("groups")


def _fuse_views(graph: Graph, node: Node, reader: Node) -> Fusion | None:
    """A map [N, C, H, W] viewed as [N, C, H * W] and turned to tokens [N, H * W, C]: in NHWC one view."""
    if node.op != "Reshape" or reader.op != "Transpose" or reader.ints("perm") != (0, 2, 1):
        return None
    before, after = graph.shapes[node.inputs[0]], graph.shapes[node.output]
    is_view = len(before) == MAP_RANK and after == (*before[:2], before[2] * before[3])
    return Fusion(output=reader.output) if is_view else None


def _fuse_pair(node: Node, reader: Node, grids: Mapping[str, QuantParams] | None) -> Fusion | None:
    if node.op == "GlobalAveragePool":
        return Fusion(output=reader.output) if reader.op == "Flatten" else None
    limits = clip_range(reader)
    if node.op not in FUSING_OPS or limits is None:
        return None
    if grids is not None and node.output in grids:
        return None
    activation = ACTIVATION_RANGES.get(limits)
    grid = grids.get(reader.output) if grids is not None else None
    if grid is not None and (activation is None or _overflows(grid, limits)):
        activation = ActivationFunctionType.NONE if grid_implies(grid, limits) else activation
    return None if activation is None else Fusion(output=reader.output, activation=activation)


def _overflows(params: QuantParams, limits: tuple[float, float]) -> bool:
    """Whether a limit in steps of the grid is no int32, as in a net whose values all but vanish; kernels refuse it."""
    largest = max((abs(limit) for limit in limits if math.isfinite(limit)), default=0.0)
    return largest / float(params.scale[0]) > np.iinfo(np.int32).max // 2


def real_range(params: QuantParams) -> tuple[float, float]:
    """Smallest and largest real value of a per_tensor grid."""
    scale, zero_point = float(params.scale[0]), int(params.zero_point[0])
    return (params.qmin - zero_point) * scale, (params.qmax - zero_point) * scale


def grid_implies(params: QuantParams, limits: tuple[float, float]) -> bool:
    """Whether saturating to a per_tensor grid clips to the limits by itself, rounding included.

    >>> grid = QuantParams(scale=np.array([6 / 255], np.float32), zero_point=np.array([-128], np.int32))
    >>> grid_implies(grid, (0.0, 6.0)), grid_implies(grid, (0.0, 4.0)), grid_implies(grid, (0.0, math.inf))
    (True, False, True)
    """
    low, high = real_range(params)
    half_step = float(params.scale[0]) / 2
    return low > limits[0] - half_step and high < limits[1] + half_step


def nonnegative_activations(graph: Graph, grids: Mapping[str, QuantParams] | None) -> frozenset[str]:
    """Names of the activations that hold no negative value, whatever the input."""
    known: set[str] = set()
    if grids is not None:
        known = {name for name, params in grids.items() if int(params.zero_point[0]) == params.qmin}
    for node in graph.nodes:
        limits = clip_range(node)
        by_itself = node.op in _NEVER_NEGATIVE or (limits is not None and limits[0] >= 0)
        if by_itself or (node.op in _KEEPS_SIGN and all(_nonnegative(graph, known, name) for name in node.inputs)):
            known.update(node.outputs)
    return frozenset(known)


def _nonnegative(graph: Graph, known: set[str], name: str) -> bool:
    if name in graph.constants:
        return bool(np.all(np.asarray(graph.constants[name], np.float32) >= 0))
    return name in known
