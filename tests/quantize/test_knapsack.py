from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.quantize import knapsack
from edgekit.quantize.knapsack import hull_steps, solve

Pairs = list[list[tuple[int, int]]]

# Whole numbers, so that sums are exact and the brute force agrees to the last bit.
problems = st.lists(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=5), max_size=5)


def arrays(problem: Pairs) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Costs and weights of each layer."""
    costs = [np.array([float(cost) for cost, _ in layer]) for layer in problem]
    return costs, [np.array([float(weight) for _, weight in layer]) for layer in problem]


def brute_force(problem: Pairs, capacity: float) -> float | None:
    """Least cost of all combinations within the capacity."""
    sums = [(sum(cost for cost, _ in each), sum(weight for _, weight in each)) for each in itertools.product(*problem)]
    return min((cost for cost, weight in sums if weight <= capacity), default=None)


def random_layers(num_layers: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Costs and weights as layers of a network have them: error falls fourfold with each bit."""
    rng = np.random.default_rng(seed)
    sizes = 10.0 ** rng.uniform(2, 6, num_layers)
    bits = np.arange(3, 9)
    weights = [np.rint(size * bits / 8 * rng.uniform(0.95, 1.0, len(bits))) for size in sizes]
    costs = [10.0 ** rng.uniform(-4, -1) * 4.0**-bits * rng.uniform(0.8, 1.2, len(bits)) for _ in sizes]
    return costs, weights


def cost_of(costs: list[np.ndarray], choice: tuple[int, ...]) -> float:
    return math.fsum(cost[index] for cost, index in zip(costs, choice, strict=True))


@given(problems, st.integers(0, 200))
def test_knapsack_equals_brute_force(problem: Pairs, capacity: int) -> None:
    costs, weights = arrays(problem)
    best = brute_force(problem, capacity)
    choice = solve(costs, weights, capacity)
    if best is None:
        assert choice is None
    else:
        assert choice is not None
        assert cost_of(weights, choice) <= capacity
        assert cost_of(costs, choice) == best


@given(st.integers(0, 2**32), st.floats(0.4, 1.0))
def test_knapsack_equals_brute_force_on_layers_like_a_network(seed: int, share: float) -> None:
    costs, weights = random_layers(5, seed)
    capacity = share * sum(each.max() for each in weights)
    choice = solve(costs, weights, capacity)
    assert choice is not None
    assert cost_of(weights, choice) <= capacity
    sums = zip(itertools.product(*costs), itertools.product(*weights), strict=True)
    best = min(math.fsum(cost) for cost, weight in sums if math.fsum(weight) <= capacity)
    assert cost_of(costs, choice) == pytest.approx(best, rel=1e-9)


@given(st.integers(0, 2**32), st.floats(0.05, 0.95))
def test_knapsack_equals_plain_dynamic_programming_on_many_layers(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    weights = [np.sort(rng.integers(1, 60, 6)).astype(float) for _ in range(25)]
    costs = [np.sort(rng.integers(0, 1000, 6))[::-1].astype(float) for _ in weights]
    low, high = (sum(int(pick(each)) for each in weights) for pick in (np.min, np.max))
    capacity = int(low + share * (high - low))
    # Least cost at each weight up to the capacity, one layer after the other.
    best = np.full(capacity + 1, np.inf)
    best[0] = 0.0
    for cost, weight in zip(costs, weights, strict=True):
        after = np.full(capacity + 1, np.inf)
        for paid, taken in zip(cost, weight.astype(int), strict=True):
            if taken <= capacity:
                after[taken:] = np.minimum(after[taken:], best[: capacity + 1 - taken] + paid)
        best = after
    choice = solve(costs, weights, capacity)
    assert choice is not None
    assert cost_of(weights, choice) <= capacity
    assert cost_of(costs, choice) == best.min()


def test_knapsack_takes_the_cheapest_of_everything_when_capacity_is_infinite() -> None:
    costs, weights = random_layers(30, 0)
    assert solve(costs, weights, math.inf) == tuple(int(cost.argmin()) for cost in costs)


@pytest.mark.parametrize("max_states", [4, 32, 256])
def test_knapsack_keeps_its_guarantee_when_states_are_thinned(max_states: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Costs that fall in step with weights leave nothing to prune by bounds: the worst case.
    rng = np.random.default_rng(1)
    weights = [np.sort(rng.uniform(10, 20, 6)) for _ in range(14)]
    costs = [20 - each + rng.uniform(0, 0.3, 6) for each in weights]
    least = sum(each.min() for each in weights)
    spare = 0.37 * (sum(each.max() for each in weights) - least)
    smaller = solve(costs, weights, least + spare * (1 - len(costs) / max_states)) if max_states > 14 else None
    monkeypatch.setattr(knapsack, "MAX_STATES", max_states)
    choice = solve(costs, weights, least + spare)
    assert choice is not None
    assert cost_of(weights, choice) <= least + spare
    if smaller is not None:
        assert cost_of(costs, choice) <= cost_of(costs, smaller) + 1e-9


@given(problems)
def test_hull_steps_never_gain_more_per_weight_later(problem: Pairs) -> None:
    slopes = [step.gain / step.weight for step in hull_steps(*arrays(problem))]
    assert slopes == sorted(slopes, reverse=True)
    assert all(slope > 0 for slope in slopes)
