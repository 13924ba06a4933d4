"""Clusters of numbers on a line: the optimum by dynamic programming, and Lloyd's iterations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.NDArray[np.float64]

MAX_DISTINCT = 1 << 15
"""Above this many distinct values `cluster_optimal` first merges neighbours, into as many bins of equal weight."""


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
