"""Weight sharing: a few values per layer, and for every weight the number of its value (Han et al. 2016, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import RecipeError

Values: TypeAlias = npt.NDArray[np.float64]
Start: TypeAlias = Literal["linear", "density", "random"]
_GroupBook: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Centroids of one channel group, and for each of its weights the place of its centroid."""

MAX_CLUSTERS = 65_536
MAX_DISTINCT = 1 << 15
"""Above this many distinct values `cluster_optimal` first merges neighbours, into as many bins of equal weight."""


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


def nearest(centroids: npt.NDArray[np.floating], values: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Index of the nearest of ascending centroids for each value; the lower one at a tie.

    >>> nearest(np.array([-1.0, 0.0, 2.0]), np.array([-9.0, 0.9, 1.0, 1.1])).tolist()
    [0, 1, 1, 2]
    """
    middles = (centroids[1:].astype(np.float64) + centroids[:-1]) / 2
    return np.searchsorted(middles, values, side="left")


def cluster_optimal(values: Values, costs: Values, num_clusters: int) -> Values:
    """Centroids of least weighted squared error in one dimension, by dynamic programming.

    Clusters of sorted values are intervals, and the best last interval's start rises with its end, so each of the
    `num_clusters` rows is found by divide and conquer in O(n log n) (Wang and Song 2011, Ckmeans.1d.dp; Grønlund et al.
    2017, arXiv:1701.07204). Exact up to `MAX_DISTINCT` values; above, neighbours are merged first.

    Args:
        values: float64 [n], ascending and distinct.
        costs: Weight of each, above 0.
        num_clusters: At least 1.

    Returns:
        Ascending, at most `num_clusters`.
    """
    if len(values) <= num_clusters:
        return values.copy()
    values, costs = _merged(values, costs)
    # Moments around the mean, so that large offsets do not eat the digits of small variances.
    center = float(np.average(values, weights=costs))
    shifted = values - center
    mass, first, second = (np.concatenate([[0.0], np.cumsum(each)]) for each in _moments(shifted, costs))

    def interval_cost(start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> Values:
        weight, total = mass[end] - mass[start], first[end] - first[start]
        spread = second[end] - second[start] - total * total / np.maximum(weight, 1e-300)
        return np.where(end > start, np.maximum(spread, 0.0), 0.0)

    count = len(values)
    ends = np.arange(1, count + 1)
    best = interval_cost(np.zeros(count, np.int64), ends)
    starts = [np.zeros(count, np.int64)]
    for _ in range(1, num_clusters):
        best, start = _next_row(best, interval_cost)
        starts.append(start)
    borders = [count]
    for start in reversed(starts):
        borders.append(int(start[borders[-1] - 1]))
    edges = np.unique(borders)
    sums, weights = np.diff(first[edges]), np.diff(mass[edges])
    return sums / weights + center


def _next_row(
    previous: Values, interval_cost: Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], Values]
) -> tuple[Values, npt.NDArray[np.int64]]:
    """One more cluster: for each end j the least of previous[i - 1] + cost(i..j), and its i.

    All subproblems of one depth of the recursion are done at once: their candidate ranges overlap at the rims only, so
    a depth costs O(n).
    """
    count = len(previous)
    before = np.concatenate([[0.0], previous])  # before[i]: cost of the first i values
    best, chosen = np.empty(count), np.empty(count, np.int64)
    todo = np.array([[0, count, 0, count - 1]], np.int64)  # ends [low, high), candidate starts low..high
    while len(todo):
        middle = (todo[:, 0] + todo[:, 1]) // 2
        low, high = todo[:, 2], np.minimum(todo[:, 3], middle)
        lengths = high - low + 1
        offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        candidates = np.arange(int(lengths.sum())) - np.repeat(offsets - low, lengths)
        totals = before[candidates] + interval_cost(candidates, np.repeat(middle + 1, lengths))
        least = np.minimum.reduceat(totals, offsets)
        at_least = np.flatnonzero(totals == np.repeat(least, lengths))
        owner = np.searchsorted(offsets, at_least, side="right") - 1
        first_of = np.searchsorted(owner, np.arange(len(todo)))
        best[middle], chosen[middle] = least, candidates[at_least[first_of]]
        left = np.stack([todo[:, 0], middle, todo[:, 2], chosen[middle]], 1)
        right = np.stack([middle + 1, todo[:, 1], chosen[middle], todo[:, 3]], 1)
        todo = np.concatenate([left, right])
        todo = todo[todo[:, 0] < todo[:, 1]]
    return best, chosen


def _moments(values: Values, costs: Values) -> tuple[Values, Values, Values]:
    return costs, costs * values, costs * values * values


def _merged(values: Values, costs: Values) -> tuple[Values, Values]:
    """At most `MAX_DISTINCT` values: neighbours become their weighted mean, in bins of about equal weight."""
    if len(values) <= MAX_DISTINCT:
        return values, costs
    share_before = np.cumsum(costs) - costs
    bins = np.minimum((share_before / costs.sum() * MAX_DISTINCT).astype(np.int64), MAX_DISTINCT - 1)
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    weights = np.add.reduceat(costs, starts)
    return np.add.reduceat(values * costs, starts) / weights, weights


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


def cluster_lloyd(values: Values, costs: Values, centroids: Values, max_rounds: int = 200) -> Values:
    """Lloyd's iterations (1982) to a local optimum; empty clusters are dropped. Arguments as `cluster_optimal`."""
    for _ in range(max_rounds):
        members = nearest(centroids, values)
        weights = np.bincount(members, costs, len(centroids))
        sums = np.bincount(members, costs * values, len(centroids))
        moved = sums[weights > 0] / weights[weights > 0]
        if len(moved) == len(centroids) and np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


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
