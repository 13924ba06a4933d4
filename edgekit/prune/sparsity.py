"""Which weights become zero: shares per layer, decided first; the masks follow from the weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import RecipeError
from edgekit.core.graph import WEIGHTED_OPS, Array, Graph, Node

Mask = npt.NDArray[np.bool_]

PATTERN_GROUP, PATTERN_KEPT = 4, 2
"""2:4: of four weights in a row along the inputs, two stay (Mishra et al. 2021, arXiv:2104.08378)."""


class LayerSparsity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Share of zeros of one layer's weight.

    Args:
        layer: Node name; the module path for a torch model.
        num_weights: Of the layer.
        sparsity: Share of zeros, 0 for a layer left dense.
    """

    layer: str
    num_weights: int
    sparsity: float


class SparsityPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weight pruning, decided.

    Args:
        layers: Every weighted layer, in order of execution.
        pattern: "2:4" for that pattern, None for zeros anywhere.
    """

    layers: tuple[LayerSparsity, ...]
    pattern: Literal["2:4"] | None = None

    @property
    def sparsity(self) -> float:
        """Share of zeros over all the layers."""
        total = sum(each.num_weights for each in self.layers)
        return sum(each.num_weights * each.sparsity for each in self.layers) / total if total else 0.0


class SensitivityPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a layer's zeros cost when it alone is pruned.

    Args:
        layer: Node name.
        sparsity: Share of zeros tried.
        loss: Increase of the loss over the dense network.
    """

    layer: str
    sparsity: float
    loss: float


def dense_by_default(graph: Graph) -> tuple[str, ...]:
    """The first convolution and the depthwise ones: few weights, and the most sensitive."""
    convolutions = [node for node in graph.nodes if node.op == "Conv"]
    first = convolutions[:1]
    return tuple(node.name for node in convolutions if node in first or graph.is_depthwise(node))


def plan_global(graph: Graph, sparsity: float, dense_layers: Iterable[str]) -> SparsityPlan:
    """One magnitude threshold for all layers (Han et al. 2015, arXiv:1506.02626).

    Args:
        graph: The network.
        sparsity: Share of zeros over all weights, dense layers included.
        dense_layers: Layers that keep every weight.

    Raises:
        RecipeError: A share out of range, or more zeros than the layers that may have them have weights.
    """
    weights = _weights(graph)
    num_zeros = _num_zeros(weights, sparsity)
    dense = set(dense_layers)
    prunable = {name: np.abs(weight).reshape(-1) for name, weight in weights.items() if name not in dense}
    total = sum(magnitudes.size for magnitudes in prunable.values())
    _check_room(num_zeros, total, sum(weight.size for weight in weights.values()))
    threshold = 0.0
    if num_zeros:
        threshold = float(np.partition(np.concatenate(list(prunable.values())), num_zeros - 1)[num_zeros - 1])
    shares = {
        name: float((magnitudes <= threshold).mean()) if num_zeros else 0.0 for name, magnitudes in prunable.items()
    }
    return _plan(weights, shares)


def plan_layer_wise(graph: Graph, sparsity: float, points: Sequence[SensitivityPoint]) -> SparsityPlan:
    """Shares at which one more zero costs the same in every layer.

    Each layer's curve is made convex (its lower hull) and cut into straight pieces; pieces are taken in order of loss
    per weight until there are zeros enough. For convex, separable curves that is the optimum (equal slopes, Lagrange).
    Layers without points stay dense.

    Raises:
        RecipeError: A share out of range, or beyond what the points reach.
    """
    weights = _weights(graph)
    num_zeros = _num_zeros(weights, sparsity)
    pieces: list[tuple[float, str, float]] = []  # loss per weight, layer, share
    for name in dict.fromkeys(point.layer for point in points):
        curve = [(0.0, 0.0), *((point.sparsity, max(0.0, point.loss)) for point in points if point.layer == name)]
        hull = _lower_hull(sorted(curve))
        for (left, low), (right, high) in itertools.pairwise(hull):
            pieces.append(((high - low) / ((right - left) * weights[name].size), name, right - left))
    reachable = sum(share * weights[name].size for _, name, share in pieces)
    _check_room(num_zeros, int(reachable), sum(weight.size for weight in weights.values()))
    shares = dict.fromkeys(weights, 0.0)
    left_over = float(num_zeros)
    for _, name, share in sorted(pieces, key=lambda piece: piece[0]):
        taken = min(share, left_over / weights[name].size)
        shares[name] += taken
        left_over -= taken * weights[name].size
    return _plan(weights, shares)


def plan_pattern(graph: Graph, dense_layers: Iterable[str]) -> SparsityPlan:
    """2:4 in every layer whose weights divide into fours along the inputs; the others stay dense."""
    weights, dense = _weights(graph), set(dense_layers)
    shares = {
        name: 1 - PATTERN_KEPT / PATTERN_GROUP
        for name, weight in weights.items()
        if name not in dense and weight.shape[1] % PATTERN_GROUP == 0
    }
    return msgspec.structs.replace(_plan(weights, shares), pattern="2:4")


def mask_of(weight: Array, sparsity: float, pattern: str | None = None) -> Mask:
    """Which weights stay: the largest by magnitude; of equal ones the earlier.

    Args:
        weight: [out, in, ...].
        sparsity: Share of zeros.
        pattern: "2:4" (`sparsity` is then 0.5 by definition) or None.

    >>> mask_of(np.array([[1.0, -3.0, 0.5, 2.0]]), 0.5).tolist()
    [[False, True, False, True]]
    """
    if sparsity <= 0:
        return np.ones(weight.shape, np.bool_)
    if pattern == "2:4":
        rows = np.moveaxis(np.abs(weight), 1, -1)
        fours = rows.reshape(-1, PATTERN_GROUP)
        order = np.argsort(-fours, axis=1, kind="stable")[:, :PATTERN_KEPT]
        kept = np.zeros(fours.shape, np.bool_)
        np.put_along_axis(kept, order, True, 1)
        return np.ascontiguousarray(np.moveaxis(kept.reshape(rows.shape), -1, 1))
    num_zeros = min(round(sparsity * weight.size), weight.size)
    mask = np.ones(weight.size, np.bool_)
    mask[np.argsort(-np.abs(weight).reshape(-1), kind="stable")[weight.size - num_zeros :]] = False
    return mask.reshape(weight.shape)


def cubic_sparsity(final: float, progress: float) -> float:
    """Share of zeros on the way to the final one (Zhu and Gupta 2017, arXiv:1710.01878, eq. 1).

    Args:
        final: Share at the end.
        progress: 0 at the start to 1 at the end of the ramp; beyond, the final share holds.

    >>> [round(cubic_sparsity(0.8, t), 3) for t in (0, 0.25, 0.5, 1, 2)]
    [0.0, 0.463, 0.7, 0.8, 0.8]
    """
    return final * (1 - (1 - min(max(progress, 0.0), 1.0)) ** 3)


def apply_sparsity(graph: Graph, plan: SparsityPlan) -> Graph:
    """The network with its smallest weights set to zero, without fine-tuning."""
    constants: dict[str, Array] = dict(graph.constants)
    shares = {each.layer: each.sparsity for each in plan.layers}
    for node in _weighted(graph):
        weight = constants[node.inputs[1]]
        mask = mask_of(weight, shares.get(node.name, 0.0), plan.pattern)
        constants[node.inputs[1]] = np.where(mask, weight, np.zeros((), weight.dtype))
    return graph.replace(constants=constants)


def _weighted(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op in WEIGHTED_OPS]


def _weights(graph: Graph) -> dict[str, Array]:
    return {node.name: graph.constants[node.inputs[1]] for node in _weighted(graph)}


def _plan(weights: dict[str, Array], shares: dict[str, float]) -> SparsityPlan:
    return SparsityPlan(
        layers=tuple(
            LayerSparsity(layer=name, num_weights=weight.size, sparsity=shares.get(name, 0.0))
            for name, weight in weights.items()
        )
    )


def _num_zeros(weights: dict[str, Array], sparsity: float) -> int:
    if not 0 <= sparsity < 1:
        raise RecipeError(
            f"sparsity {sparsity:g} is out of range, expected 0 to below 1", hint="0.6 sets six weights of ten to zero"
        )
    return round(sparsity * sum(weight.size for weight in weights.values()))


def _check_room(num_zeros: int, num_prunable: int, num_weights: int) -> None:
    if num_zeros > num_prunable:
        raise RecipeError(
            f"sparsity {num_zeros / num_weights:.3g} asks for {num_zeros} zeros, but only {num_prunable} of "
            f"{num_weights} weights may become zero",
            hint="ask for less, or leave fewer layers dense",
        )


def _lower_hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Lower convex hull of points sorted by x (Andrew's monotone chain)."""
    hull: list[tuple[float, float]] = []
    for x, y in points:
        while len(hull) > 1 and (hull[-1][0] - hull[-2][0]) * (y - hull[-2][1]) <= (hull[-1][1] - hull[-2][1]) * (
            x - hull[-2][0]
        ):
            hull.pop()
        hull.append((x, y))
    return hull
