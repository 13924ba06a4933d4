"""What will be quantized, as data: which activations get a grid, which must share one, which layers have weights.

Rules, and why:

- *Fusion.* A Conv, Gemm or Add whose only reader is a Relu or Clip has no grid: both lowerings fuse the two, so the
  value between them is never rounded.
- *Sharing.* Operators that only move, pick or average values (`SHARING_OPS`) have one grid for all inputs and outputs:
  TFLite demands it of int8 CONCATENATION, MAX_POOL_2D, AVERAGE_POOL_2D, PAD, RESHAPE, TRANSPOSE, SLICE and SPLIT, and
  it costs no second rounding. A Relu or Clip that is not fused shares too: on one grid it is a comparison of integers.
  GlobalAveragePool does not share: the mean of a map spans a far smaller range than the map, and MEAN requantizes.
- *Shadowing.* A value that is read by nothing but a Relu or Clip, directly or through operators that move values, need
  not be represented where the Relu cuts it off: its group's range is chosen without it, and saturation does its part
  of the Relu. So a concatenation followed by a Relu spends no levels on negative values.
- *Fixed grids.* Sigmoid and Softmax have scale 1/256 and zero-point -128 (TFLite demands it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from edgekit.core.errors import UnsupportedOpError
from edgekit.core.graph import TRANSFORMER_OPS, WEIGHTED_OPS, Graph, Node

SHARING_OPS = frozenset(
    {
        "Concat",
        "MaxPool",
        "AveragePool",
        "Pad",
        "Reshape",
        "Flatten",
        "Transpose",
        "ChannelShuffle",
        "Split",
        "Slice",
        "Relu",
        "Clip",
    }
)
FIXED_OPS = frozenset({"Sigmoid", "Softmax"})
ELEMENTWISE_OPS = frozenset({"Add", "Mul"})
ACTIVATION_OPS = frozenset({"Relu", "Clip"})

_FREE_OPS = frozenset({"GlobalAveragePool", "HardSwish", "HardSigmoid", "LRN"})
_FUSING_OPS = frozenset({*WEIGHTED_OPS, "Add"})
# Operators through which a later Relu can be drawn: f(relu(x)) = relu(f(x)). An average is not one of them.
_COMMUTING_OPS = SHARING_OPS - ACTIVATION_OPS - {"AveragePool", "Pad"}
_KNOWN_OPS = SHARING_OPS | FIXED_OPS | ELEMENTWISE_OPS | _FREE_OPS | frozenset(WEIGHTED_OPS)


class ActivationGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Activations that share one grid.

    Args:
        members: Names, in execution order.
        visible: The members that the grid must represent; the others are shadowed (module docstring).
        is_fixed: Scale 1/256 and zero-point -128 instead of a range from calibration.
        is_output: The graph's output is a member.
    """

    members: tuple[str, ...]
    visible: tuple[str, ...]
    is_fixed: bool = False
    is_output: bool = False


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One Conv or Gemm.

    Args:
        node: The operator.
        input: Its input activation.
        output: The activation whose grid its result lands on: of the fused Relu or Clip, if there is one.
        weight: Name of the weight constant.
        bias: Name of the bias constant, None if it has none.
    """

    node: Node
    input: str
    output: str
    weight: str
    bias: str | None


class QuantizationPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is decided before a number is looked at.

    Args:
        groups: Activations by shared grid, in execution order.
        fused: Activation without a grid -> the fused Relu's or Clip's output that carries it.
        layers: Conv and Gemm nodes, in execution order.
        constants: Names of constant operands of Add and Mul, which get a grid of their own.
    """

    groups: tuple[ActivationGroup, ...]
    fused: dict[str, str]
    layers: tuple[Layer, ...]
    constants: tuple[str, ...]

    @property
    def observed(self) -> tuple[str, ...]:
        """Activations that calibration must watch: whatever a range is chosen from, and every layer's input."""
        names = {name for group in self.groups if not group.is_fixed for name in group.visible}
        names |= {layer.input for layer in self.layers}
        order = (name for group in self.groups for name in group.members)
        return tuple(name for name in order if name in names)


def plan_quantization(graph: Graph) -> QuantizationPlan:
    """Decide grids, groups and layers of a graph.

    Raises:
        UnsupportedOpError: An operator without an integer form; names the node.
    """
    for node in graph.nodes:
        if node.op in TRANSFORMER_OPS or graph.is_token_layer(node):
            raise UnsupportedOpError(
                f"node {node.name}: {node.op} of a transformer has no static integer form",
                hint="quantize it dynamically: --set quantize.scheme=dynamic_wi8_ai8",
            )
        if node.op not in _KNOWN_OPS:
            raise UnsupportedOpError(
                f"node {node.name}: {node.op} cannot be quantized; known: {', '.join(sorted(_KNOWN_OPS))}"
            )
    fused = _find_fused(graph)
    layers = tuple(_layer(graph, node, fused) for node in graph.nodes if node.op in WEIGHTED_OPS)
    operands = [name for node in graph.nodes if node.op in ELEMENTWISE_OPS for name in node.inputs]
    return QuantizationPlan(
        groups=_find_groups(graph, fused),
        fused=fused,
        layers=layers,
        constants=tuple(dict.fromkeys(name for name in operands if name in graph.constants)),
    )


def _find_fused(graph: Graph) -> dict[str, str]:
    consumers = graph.consumers()
    fused: dict[str, str] = {}
    for node in graph.nodes:
        readers = consumers.get(node.output, [])
        if (
            node.op in _FUSING_OPS
            and len(readers) == 1
            and readers[0].op in ACTIVATION_OPS
            and node.output != graph.output
        ):
            fused[node.output] = readers[0].output
    return fused


def _layer(graph: Graph, node: Node, fused: dict[str, str]) -> Layer:
    if node.inputs[1] not in graph.constants:
        raise UnsupportedOpError(f"node {node.name}: the weight of {node.op} is no constant")
    return Layer(
        node=node,
        input=node.inputs[0],
        output=fused.get(node.output, node.output),
        weight=node.inputs[1],
        bias=node.inputs[2] if len(node.inputs) > 2 else None,
    )


def _find_groups(graph: Graph, fused: dict[str, str]) -> tuple[ActivationGroup, ...]:
    gridded = [name for name in graph.activations() if name not in fused]
    groups = _Groups(gridded)
    for node in graph.nodes:
        if node.op in SHARING_OPS:
            groups.join(name for name in (*graph.data_inputs(node), *node.outputs) if name not in fused)
    shadowed = _find_shadowed(graph)
    producers = graph.producers()
    found: list[ActivationGroup] = []
    for members in groups.listing():
        visible = tuple(name for name in members if name not in shadowed)
        is_fixed = _is_fixed(members, producers)
        found.append(
            ActivationGroup(members=members, visible=visible, is_fixed=is_fixed, is_output=graph.output in members)
        )
    return tuple(found)


def _is_fixed(members: tuple[str, ...], producers: Mapping[str, Node]) -> bool:
    """Whether a group holds the output of a Sigmoid or Softmax.

    Raises:
        UnsupportedOpError: It also holds values of another origin, which 0..1 cannot hold.
    """
    makers = [producers.get(name) for name in members]
    is_fixed = any(maker is not None and maker.op in FIXED_OPS for maker in makers)
    for name, maker in zip(members, makers, strict=True):
        if is_fixed and (maker is None or maker.op not in FIXED_OPS | SHARING_OPS):
            raise UnsupportedOpError(
                f"activation {name} shares its grid with a Sigmoid or Softmax, whose grid is fixed to 0..1",
                hint="concatenate before the Sigmoid, or keep the two apart",
            )
    return is_fixed


def _find_shadowed(graph: Graph) -> frozenset[str]:
    """Activations that reach nothing but Relus and Clips (walking backwards, so readers are known first)."""
    consumers = graph.consumers()
    shadowed: set[str] = set()
    for name in reversed(graph.activations()):
        readers = consumers.get(name, [])
        if name == graph.output or not readers:
            continue
        if all(
            reader.op in ACTIVATION_OPS
            or (reader.op in _COMMUTING_OPS and all(output in shadowed for output in reader.outputs))
            for reader in readers
        ):
            shadowed.add(name)
    return frozenset(shadowed)


class _Groups:
    """Union-find over names (Tarjan 1975), the earliest name of a group its root."""

    def __init__(self, names: Iterable[str]) -> None:
        self._order = {name: index for index, name in enumerate(names)}
        self._parent = {name: name for name in self._order}

    def root(self, name: str) -> str:
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def join(self, names: Iterable[str]) -> None:
        roots = sorted({self.root(name) for name in names}, key=self._order.__getitem__)
        for root in roots[1:]:
            self._parent[root] = roots[0]

    def listing(self) -> list[tuple[str, ...]]:
        members: dict[str, list[str]] = {}
        for name in self._order:
            members.setdefault(self.root(name), []).append(name)
        return [tuple(names) for names in members.values()]
