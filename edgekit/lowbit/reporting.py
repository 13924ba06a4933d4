"""What the report says about bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgekit.core.entropy import order0_bits
from edgekit.core.graph import Graph, Node
from edgekit.core.quant import QuantizedGraph
from edgekit.core.report import BitsRow
from edgekit.quantize.outcome import LayerOutcome

_WIDE_WORDS = {"first": "first layer", "last": "last layer"}


def bits_rows(
    model: QuantizedGraph, outcomes: Iterable[LayerOutcome], reasons: Mapping[str, str], method: str | None = None
) -> tuple[BitsRow, ...]:
    """One row per layer, from the integers that were decided.

    Args:
        model: The network.
        outcomes: How layers were rounded; empty where another engine did it.
        reasons: Layer name -> why it was spared.
        method: How weights were rounded where outcomes do not say, or training came after.
    """
    known = {outcome.name: outcome for outcome in outcomes}
    rows: list[BitsRow] = []
    for node in model.graph.nodes:
        if len(node.inputs) < 2 or node.inputs[1] not in model.constants or node.op not in ("Conv", "Gemm"):
            continue
        tensor = model.constants[node.inputs[1]]
        bits = order0_bits(tensor.values)
        outcome = known.get(node.name)
        reason = reasons.get(node.name)
        rows.append(
            BitsRow(
                layer=node.name,
                op=_op(model.graph, node),
                num_weights=int(tensor.values.size),
                grid_bits=tensor.params.num_bits,
                wide_because=None if reason is None else _WIDE_WORDS.get(reason, reason),
                method=method or (outcome.method if outcome else "nearest"),
                output_sqnr_db=None if outcome is None or method else outcome.sqnr_db,
                bits_per_weight=bits / max(1, tensor.values.size),
                entropy_bytes=round(bits / 8),
            )
        )
    return tuple(rows)


def _op(graph: Graph, node: Node) -> str:
    return "DepthwiseConv" if graph.is_depthwise(node) else node.op
