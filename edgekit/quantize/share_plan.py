"""Which layers share their weights among how many values: decided first, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import GraphError, RecipeError
from edgekit.core.graph import WEIGHTED_OPS, Array, Graph
from edgekit.quantize.codebook import Sharing, read_codebook, share

MAX_BITS = 16
OPTIMAL = Sharing(num_clusters=256)


class LayerSharing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values of one layer's weight.

    Args:
        layer: Node name; the module path for a torch model.
        op: "Conv" or "Gemm".
        num_weights: Of the layer.
        num_bits: Of an index into its codebook; None for a layer that is left as it is.
        sharing: How it is clustered; None likewise.
    """

    layer: str
    op: str
    num_weights: int
    num_bits: int | None = None
    sharing: Sharing | None = None


class SharePlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weight sharing, decided.

    Args:
        layers: Every weighted layer, in order of execution.
    """

    layers: tuple[LayerSharing, ...]

    @property
    def shared(self) -> dict[str, Sharing]:
        """The layers that share, with how."""
        return {each.layer: each.sharing for each in self.layers if each.sharing is not None}


def plan_sharing(
    graph: Graph,
    conv_bits: int,
    fc_bits: int,
    *,
    like: Sharing = OPTIMAL,
    dense_layers: Iterable[str] = (),
) -> SharePlan:
    """2**bits values for every layer (Han et al. 2016, table 4: 8 bits for convolutions, 5 for linear layers).

    Args:
        graph: The network, BatchNorm folded.
        conv_bits: Of convolutions, depthwise ones and the first included.
        fc_bits: Of linear layers.
        like: Method, start, channel groups and pinning; its number of clusters is not used.
        dense_layers: Layers left as they are.

    Raises:
        RecipeError: Bits out of range, or a layer that the model does not have.
    """
    for words, bits in (("conv", conv_bits), ("fc", fc_bits)):
        if not 1 <= bits <= MAX_BITS:
            raise RecipeError(
                f"{bits} bits for {words} layers are out of range, expected 1 to {MAX_BITS}",
                hint="8/5 shares convolutions among 256 values and linear layers among 32",
            )
    dense = set(dense_layers)
    layers: list[LayerSharing] = []
    for node in graph.nodes:
        if node.op in WEIGHTED_OPS:
            is_dense = node.name in dense
            bits = conv_bits if node.op == "Conv" else fc_bits
            layers.append(
                LayerSharing(
                    layer=node.name,
                    op=node.op,
                    num_weights=graph.constants[node.inputs[1]].size,
                    num_bits=None if is_dense else bits,
                    sharing=None if is_dense else msgspec.structs.replace(like, num_clusters=1 << bits),
                )
            )
    unknown = sorted(dense - {each.layer for each in layers})
    if unknown:
        raise RecipeError(f"layer {unknown[0]!r}, which is not to share, is not in the model")
    return SharePlan(layers=tuple(layers))


def apply_sharing(
    graph: Graph, plan: SharePlan, importance: Mapping[str, npt.NDArray[np.floating]] | None = None
) -> Graph:
    """The network with clustered weights, without fine-tuning.

    Args:
        graph: The network that the plan was made for.
        plan: How each layer is shared.
        importance: Layer -> weight of each weight's squared error, as `share` takes it; layers left out: all equal.

    Raises:
        GraphError: The plan names a layer that the network does not have.
        RecipeError: Weights that cannot be shared so.
    """
    constants: dict[str, Array] = dict(graph.constants)
    for layer, sharing in plan.shared.items():
        name, weight = _weight(graph, layer)
        constants[name] = share(weight, sharing, (importance or {}).get(layer)).values
    return graph.replace(constants=constants)


def count_clusters(graph: Graph, plan: SharePlan) -> dict[str, tuple[int, ...]]:
    """Distinct values of each shared layer's channel groups, zero included: what the network really holds.

    Raises:
        GraphError: The plan names a layer that the network does not have.
    """
    return {
        layer: read_codebook(_weight(graph, layer)[1], sharing.num_groups).group_sizes
        for layer, sharing in plan.shared.items()
    }


def _weight(graph: Graph, layer: str) -> tuple[str, npt.NDArray[np.float32]]:
    for node in graph.nodes:
        if node.name == layer and node.op in WEIGHTED_OPS:
            name = node.inputs[1]
            return name, np.asarray(graph.constants[name], np.float32)
    raise GraphError(f"the share plan names {layer!r}, which the model does not have")
