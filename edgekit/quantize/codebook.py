"""Weight sharing: a few values per layer, and for every weight the number of its value (Han et al. 2016, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import RecipeError
from edgekit.quantize.clustering import Values, cluster_lloyd, cluster_optimal, nearest

Start: TypeAlias = Literal["linear", "density", "random"]
_GroupBook: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Centroids of one channel group, and for each of its weights the place of its centroid."""

MAX_CLUSTERS = 65_536


class Codebook(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor, shared.

    Args:
        centroids: float32 [clusters of all groups], ascending within a group; with a pinned zero one of each group's
            is exactly 0, if the group has zeros.
        indices: Places in `centroids`; uint8, uint16 or uint32, the tensor's shape.
        group_sizes: Clusters of each channel group, in order; one number for a tensor with one codebook.
    """

    centroids: npt.NDArray[np.float32]
    indices: npt.NDArray[np.unsignedinteger]
    group_sizes: tuple[int, ...]

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """The tensor that the codebook stands for, float32."""
        return self.centroids[self.indices]


class Sharing(msgspec.Struct, frozen=True, kw_only=True):
    """How weights are shared.

    Args:
        num_clusters: Most values used, of each channel group; fewer where there are fewer distinct weights.
        method: "optimal" (dynamic programming) or "lloyd".
        start: Where Lloyd's iterations start: evenly over the range ("linear": it keeps the rare large weights and is
            best in the paper), at even steps of the cumulative distribution ("density"), or at drawn weights
            ("random").
        pin_zero: Zeros stay zero and have a cluster of their own.
        seed: For the random start.
        num_groups: Runs of consecutive output channels (dimension 0), as equal as can be, with a codebook each; one
            per channel where there are fewer channels.
    """

    num_clusters: int
    method: Literal["optimal", "lloyd"] = "optimal"
    start: Start = "linear"
    pin_zero: bool = True
    seed: int = 0
    num_groups: int = 1


def share(weights: npt.NDArray[np.floating], sharing: Sharing, importance: npt.ArrayLike | None = None) -> Codebook:
    """Cluster a tensor's weights, each channel group by itself.

    Args:
        weights: Any shape, finite.
        sharing: How.
        importance: Weight of each weight's squared error, as the tensor's shape (squared gradients, for example: Choi
            et al. 2017, arXiv:1612.01543, eq. 5); None for all equal.

    Raises:
        RecipeError: Fewer than one cluster or group (two clusters with a pinned zero among other values), or too many.
    """
    if importance is not None and np.size(importance) != np.size(weights):
        raise RecipeError(f"importance has {np.size(importance)} values, expected {np.size(weights)} of 0 or more")
    parts = _split(weights, sharing.num_groups)
    costs = [None] * len(parts) if importance is None else _split(_like(importance, weights), sharing.num_groups)
    return _join([_share_group(*each, sharing) for each in zip(parts, costs, strict=True)], weights.shape)


def read_codebook(weights: npt.NDArray[np.floating], num_groups: int = 1) -> Codebook:
    """The codebook that a shared tensor shows: the distinct values of each channel group.

    Args:
        weights: Any shape.
        num_groups: As in `Sharing`.

    Raises:
        RecipeError: Weights that are not finite, or none.
    """
    parts = _split(weights, num_groups)
    return _join([_distinct(np.asarray(part, np.float32)) for part in parts], weights.shape)


def _split(weights: npt.NDArray[np.floating], num_groups: int) -> list[npt.NDArray[np.floating]]:
    if num_groups < 1:
        raise RecipeError(f"{num_groups} channel groups are out of range, expected at least 1")
    if num_groups == 1 or weights.ndim == 0 or len(weights) == 0:
        return [weights]
    return np.array_split(weights, min(num_groups, len(weights)))


def _like(importance: npt.ArrayLike, weights: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    return np.asarray(importance, np.float64).reshape(weights.shape)


def _distinct(part: npt.NDArray[np.float32]) -> _GroupBook:
    _check_values(part)
    centroids, indices = np.unique(part, return_inverse=True)
    return centroids, indices.reshape(-1)


def _join(groups: list[_GroupBook], shape: tuple[int, ...]) -> Codebook:
    sizes = tuple(len(centroids) for centroids, _ in groups)
    firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    indices = np.concatenate([places + first for (_, places), first in zip(groups, firsts, strict=True)])
    dtype = np.uint8 if sum(sizes) <= 256 else np.uint16 if sum(sizes) <= 65_536 else np.uint32
    return Codebook(
        centroids=np.concatenate([centroids for centroids, _ in groups]),
        indices=indices.astype(dtype).reshape(shape),
        group_sizes=sizes,
    )


def _share_group(
    weights: npt.NDArray[np.floating], importance: npt.NDArray[np.floating] | None, sharing: Sharing
) -> _GroupBook:
    flat = np.asarray(weights, np.float64).reshape(-1)
    costs = np.ones_like(flat) if importance is None else np.asarray(importance, np.float64).reshape(-1)
    _check(sharing, flat, costs)
    clustered = np.ones(flat.shape, np.bool_) if not sharing.pin_zero else flat != 0
    num_free = sharing.num_clusters - (1 if not clustered.all() else 0)
    distinct, inverse = np.unique(flat[clustered], return_inverse=True)
    # A weight without importance must still get the nearest value: a trace of importance keeps every cost defined.
    trace = 1e-12 * max(float(costs.max(initial=0.0)), 1.0)
    sums = np.bincount(inverse, costs[clustered] + trace, len(distinct)).astype(np.float64)
    if num_free < 1 and len(distinct):
        raise RecipeError("one cluster is all zero's, none is left for other weights", hint="use at least 2 clusters")
    cluster: Callable[[Values, Values, int], Values] = (
        cluster_optimal if sharing.method == "optimal" else _lloyd_from(sharing)
    )
    centroids = cluster(distinct, sums, num_free) if len(distinct) else np.zeros(0)
    if not clustered.all():
        centroids = np.unique(np.append(centroids, 0.0))
    rounded = np.unique(centroids.astype(np.float32))
    indices = nearest(rounded, flat)
    if sharing.pin_zero and not clustered.all():
        indices[~clustered] = int(np.searchsorted(rounded, 0.0))
        indices[clustered] = _without_zero(rounded, flat[clustered])
    return rounded, indices


def _lloyd_from(sharing: Sharing) -> Callable[[Values, Values, int], Values]:
    def cluster(values: Values, costs: Values, num_clusters: int) -> Values:
        return cluster_lloyd(values, costs, starting_centroids(values, costs, num_clusters, sharing))

    return cluster


def starting_centroids(values: Values, costs: Values, num_clusters: int, sharing: Sharing) -> Values:
    """Where Lloyd's iterations start (Han et al. 2016, section 3.2); arguments as `cluster_optimal`."""
    if sharing.start == "linear":
        return np.linspace(values[0], values[-1], num_clusters)
    if sharing.start == "density":
        cumulative = np.cumsum(costs) / costs.sum()
        return values[np.searchsorted(cumulative, (np.arange(num_clusters) + 0.5) / num_clusters)]
    generator = np.random.default_rng(sharing.seed)
    count = min(num_clusters, len(values))
    return np.sort(generator.choice(values, count, replace=False, p=costs / costs.sum()))


def _without_zero(centroids: npt.NDArray[np.float32], values: Values) -> npt.NDArray[np.int64]:
    """Nearest centroid other than zero, so that no weight that stayed becomes a zero."""
    places = np.flatnonzero(centroids != 0)
    return places[nearest(centroids[places], values)]


def _check(sharing: Sharing, flat: Values, costs: Values) -> None:
    if not 1 <= sharing.num_clusters <= MAX_CLUSTERS:
        raise RecipeError(f"{sharing.num_clusters} clusters are out of range, expected 1 to {MAX_CLUSTERS}")
    _check_values(flat)
    if costs.shape != flat.shape or not (costs >= 0).all():
        raise RecipeError(f"importance has {costs.size} values, expected {flat.size} of 0 or more")


def _check_values(values: npt.NDArray[np.floating]) -> None:
    if values.size == 0 or not np.isfinite(values).all():
        raise RecipeError("only finite weights, at least one, can be shared")
