"""How many bits each layer's weights get when all are asked to have the same, and which layers are spared.

Depthwise layers have few weights and lose most: with 1.85 % of MobileNet V2's weights kept at eight bits, rounding the
rest to six costs a tenth of the points it costs otherwise. The first layer sees the pictures and the last gives the
answers; both are usually spared (Nagel et al. 2021, arXiv:2106.08295, section 3.6). But a last layer of 1,000 classes
is a third of a mobile network, and no more sensitive than others: it is spared where it is small.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from edgekit.core.errors import RecipeError
from edgekit.core.graph import WEIGHTED_OPS, Graph

WIDE_BITS = 8
"""Grid bits of spared layers."""

MAX_LAST_SHARE = 0.1
"""A last layer with more than this share of the weights is not spared."""


class BitPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Grid bits of every layer.

    Args:
        bits: Layer name -> grid bits, in execution order.
        reasons: Layer name -> why it has eight bits though fewer were asked for; only spared layers.
    """

    bits: Mapping[str, int]
    reasons: Mapping[str, str]


def plan_bits(graph: Graph, num_bits: int, wide_layers: Collection[str] | None = None) -> BitPlan:
    """The same number of bits for all layers, but eight for spared ones.

    Args:
        graph: Canonical float graph.
        num_bits: Grid bits asked for, 2 to 8.
        wide_layers: Layers to spare; None for depthwise layers, the first, and the last
            where it is small.

    Raises:
        RecipeError: A layer to spare is not in the graph.
    """
    layers = [node.name for node in graph.nodes if node.op in WEIGHTED_OPS]
    if num_bits >= WIDE_BITS:
        return BitPlan(bits=dict.fromkeys(layers, num_bits), reasons={})
    if wide_layers is None:
        reasons = spared_by_default(graph)
    else:
        unknown = [name for name in wide_layers if name not in layers]
        if unknown:
            raise RecipeError(
                f"quantize.wide_layers: {unknown[0]!r} is no layer of {graph.name}",
                hint=f"its layers: {', '.join(layers[:6])}{', ...' if len(layers) > 6 else ''}",
            )
        reasons = dict.fromkeys(wide_layers, "asked for")
    bits = {name: WIDE_BITS if name in reasons else num_bits for name in layers}
    return BitPlan(bits=bits, reasons=reasons)


def spared_by_default(graph: Graph) -> dict[str, str]:
    """Layer name -> "first", "last" or "depthwise"."""
    nodes = [node for node in graph.nodes if node.op in WEIGHTED_OPS]
    reasons = {node.name: "depthwise" for node in nodes if graph.is_depthwise(node)}
    if nodes:
        sizes = [int(graph.constants[node.inputs[1]].size) for node in nodes]
        reasons[nodes[0].name] = "first"
        if sizes[-1] <= MAX_LAST_SHARE * sum(sizes):
            reasons[nodes[-1].name] = "last"
    return reasons
