"""The multiple-choice knapsack: one candidate per layer, least total cost within a total weight.

A Lagrangian pass over the layers' convex hulls gives a good answer, a price of weight and a lower bound on the cost
(Kellerer, Pferschy and Pisinger 2004, section 11.2; as LP relaxation Sinha and Zoltners 1979). Dynamic programming
over undominated pairs of weight and cost, with all states dropped whose bound cannot beat that answer, then finds the
exact one (section 11.5).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Choice: TypeAlias = tuple[int, ...]
"""The position of each layer's candidate."""

MAX_STATES = 1 << 15
"""States kept after a layer; beyond that they are thinned to one per bucket of weight."""

_PRECISION = 45
"""Weights are counted in units of at most 2**-_PRECISION of the capacity, so that their sums are exact integers."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One layer moves on to its next candidate on the lower hull.

    Args:
        layer: Position of the layer.
        candidate: Position of the candidate it moves to.
        weight: What it adds, above 0.
        gain: What it saves in cost, above 0.
    """

    layer: int
    candidate: int
    weight: float
    gain: float


def solve(costs: Sequence[Floats], weights: Sequence[Floats], capacity: float) -> Choice | None:
    """Least total cost with a total weight of at most `capacity`.

    Weights are rounded up to a power of two between 2**-46 and 2**-45 of the capacity, so that no rounding of sums can
    break the bound. The answer is then exact as long as no layer leaves more than `MAX_STATES` states. Else it is no
    worse than the exact answer to a capacity that is smaller by `len(costs) / MAX_STATES` of the spare: each layer's
    thinning replaces a state by a better one that is heavier by less than one bucket.

    Args:
        costs: Of the candidates of each layer; finite, [candidates].
        weights: The same shapes; finite, at least 0.
        capacity: At least 0; may be infinite.

    Returns:
        The position of each layer's candidate; None when even the lightest are too heavy.
    """
    # A capacity that everything fits into needs no finer units than the heaviest answer.
    capacity = min(capacity, 2 * sum(float(each.max()) for each in weights))
    unit = math.ldexp(1.0, math.frexp(capacity)[1] - 1 - _PRECISION) if capacity > 0 else 1.0
    limit = math.floor(capacity / unit)
    # A candidate above the capacity is out in any case; clipping keeps it within 64 bits.
    counted = [np.ceil(np.minimum(each / unit, 2.0 * limit + 2)).astype(np.int64) for each in weights]
    spare = limit - sum(int(each.min()) for each in counted)
    if spare < 0:
        return None
    problems = [_undominated(cost, weight - weight.min()) for cost, weight in zip(costs, counted, strict=True)]
    program = _Program([cost[kept] for cost, (kept, _) in zip(costs, problems, strict=True)], problems, spare)
    found = program.run()
    return tuple(int(kept[index]) for (kept, _), index in zip(problems, found, strict=True))


def hull_steps(costs: Sequence[Floats], weights: Sequence[Floats]) -> list[Step]:
    """All steps along the layers' lower hulls, the most gain per weight first; a layer's own stay in order."""
    steps: list[Step] = []
    for layer, (cost, weight) in enumerate(zip(costs, weights, strict=True)):
        kept, lighter = _undominated(cost, weight)
        corners = _lower_hull(lighter, cost[kept])
        for before, after in itertools.pairwise(corners):
            steps.append(
                Step(
                    layer=layer,
                    candidate=int(kept[after]),
                    weight=float(lighter[after] - lighter[before]),
                    gain=float(cost[kept[before]] - cost[kept[after]]),
                )
            )
    # The sort is stable, so equal slopes of one layer keep their order.
    return sorted(steps, key=lambda step: -step.gain / step.weight)


def _undominated(cost: Floats, weight: npt.NDArray) -> tuple[Integers, npt.NDArray]:
    """Positions of the candidates that no lighter (or equal) one beats, by rising weight, and their weights."""
    order = np.lexsort((cost, weight))
    best = np.minimum.accumulate(cost[order])
    is_kept = np.ones(len(order), dtype=bool)
    is_kept[1:] = cost[order][1:] < best[:-1]
    return order[is_kept], weight[order][is_kept]


def _lower_hull(weight: npt.NDArray, cost: Floats) -> list[int]:
    """Corners of the lower convex hull of points with rising weight and falling cost (Andrew 1979)."""
    corners: list[int] = []
    for index in range(len(weight)):
        while len(corners) > 1:
            first, second = corners[-2:]
            run, rise = float(weight[second] - weight[first]), float(cost[second] - cost[first])
            if rise * float(weight[index] - weight[first]) < float(cost[index] - cost[first]) * run:
                break
            corners.pop()
        corners.append(index)
    return corners


class _Program:
    """One run over candidates that are undominated and count from their lightest."""

    def __init__(self, costs: list[Floats], problems: list[tuple[Integers, Integers]], spare: int) -> None:
        self.costs = costs
        self.weights = [weight for _, weight in problems]
        self.spare = spare

    def run(self) -> list[int]:
        """The candidate of each layer."""
        answer, price = self._relax()
        if price is None:
            return answer
        bound = sum(float((c + price * w).min()) for c, w in zip(self.costs, self.weights, strict=True))
        best = sum(float(cost[index]) for cost, index in zip(self.costs, answer, strict=True))
        gap = best - (bound - price * self.spare)
        # What rounding may have eaten of the bound must not drop the best state.
        gap += 1e-12 * (abs(best) + price * self.spare)
        found = self._search(price, gap)
        total = math.inf if found is None else sum(float(c[i]) for c, i in zip(self.costs, found, strict=True))
        return found if found is not None and total < best else answer

    def _relax(self) -> tuple[list[int], float | None]:
        """A good answer along the hulls, and the price of weight; no price when the answer is the best there is."""
        answer = [0] * len(self.costs)
        left, price = self.spare, None
        is_closed = [False] * len(self.costs)
        for step in hull_steps(self.costs, [weight.astype(np.float64) for weight in self.weights]):
            if is_closed[step.layer]:
                continue
            added = int(self.weights[step.layer][step.candidate] - self.weights[step.layer][answer[step.layer]])
            if added > left:
                price = step.gain / step.weight if price is None else price
                is_closed[step.layer] = True
                continue
            left -= added
            answer[step.layer] = step.candidate
        return answer, price

    def _search(self, price: float, gap: float) -> list[int] | None:
        """Dynamic programming layer by layer; None when every state was dropped."""
        weight, reduced = np.zeros(1, dtype=np.int64), np.zeros(1)
        trail: list[tuple[Integers, Integers]] = []
        for cost, candidate_weight in zip(self.costs, self.weights, strict=True):
            # What a candidate costs above the cheapest at this price: such sums are what a state is above the bound.
            above = cost + price * candidate_weight
            above = above - above.min()
            weights = (weight[:, None] + candidate_weight[None, :]).ravel()
            sums = (reduced[:, None] + above[None, :]).ravel()
            at = np.flatnonzero((weights <= self.spare) & (sums <= gap))
            if not len(at):
                return None
            # Undominated in weight and cost; a state's cost is its sum less the price of its weight.
            kept, _ = _undominated(sums[at] - price * weights[at], weights[at])
            at = self._thinned(at[kept], weights)
            weight, reduced = weights[at], sums[at]
            trail.append((at // len(cost), at % len(cost)))
        state = int((reduced - price * weight).argmin())
        found: list[int] = []
        for parents, choices in reversed(trail):
            found.append(int(choices[state]))
            state = int(parents[state])
        return found[::-1]

    def _thinned(self, at: Integers, weights: Integers) -> Integers:
        """States by rising weight and falling cost, at most `MAX_STATES`: the last, so the cheapest, of each bucket."""
        if len(at) <= MAX_STATES:
            return at
        width = self.spare // MAX_STATES + 1
        buckets = weights[at] // width
        return at[np.append(np.flatnonzero(np.diff(buckets)), len(at) - 1)]
