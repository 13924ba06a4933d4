from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import BudgetError, QuantizationError
from edgekit.quantize.allocation import (
    Allocation,
    Candidate,
    LayerOptions,
    allocate,
    allocate_error,
    most_precise,
    smallest,
    sweep,
)


@st.composite
def tables(draw: st.DrawFn) -> list[LayerOptions]:
    """Options of a few layers, in any order and with useless candidates among them; sums are exact."""
    whole = st.integers(0, 40)
    rows = draw(st.lists(st.lists(st.tuples(whole, whole), min_size=1, max_size=5), min_size=1, max_size=4))
    return [
        layer(f"layer{index}", {bits: (error / 64, float(size)) for bits, (error, size) in enumerate(row, start=2)})
        for index, row in enumerate(rows)
    ]


def layer(name: str, costs: dict[int, tuple[float, float]]) -> LayerOptions:
    """Options of a layer: bits to (error, bytes)."""
    candidates = tuple(Candidate(num_bits=bits, error=error, size_bytes=size) for bits, (error, size) in costs.items())
    return LayerOptions(name=name, num_weights=100, candidates=candidates)


def every_sum(options: list[LayerOptions]) -> list[tuple[float, float]]:
    """(error, bytes) of all combinations."""
    return [
        (math.fsum(each.error for each in chosen), math.fsum(each.size_bytes for each in chosen))
        for chosen in itertools.product(*(layer.candidates for layer in options))
    ]


def is_of_table(options: list[LayerOptions], allocation: Allocation) -> bool:
    """Whether error and size are the sums of candidates with these bits, which name every layer once."""
    chosen = [
        next(each for each in layer.candidates if each.num_bits == allocation.bits[layer.name]) for layer in options
    ]
    sums = math.fsum(each.error for each in chosen), math.fsum(each.size_bytes for each in chosen)
    return list(allocation.bits) == [layer.name for layer in options] and sums == (
        allocation.error,
        allocation.size_bytes,
    )


@given(tables(), st.integers(0, 160))
def test_allocation_has_the_least_error_of_all_within_the_budget(options: list[LayerOptions], budget: int) -> None:
    sums = every_sum(options)
    within = [error for error, size in sums if size <= budget]
    if within:
        allocation = allocate(options, budget)
        assert is_of_table(options, allocation)
        assert allocation.size_bytes <= budget
        assert allocation.error == min(within)
    else:
        with pytest.raises(BudgetError) as caught:
            allocate(options, budget)
        assert caught.value.nearest == min(size for _, size in sums)
        assert caught.value.exit_code == 1


@given(tables(), st.integers(0, 160))
def test_allocation_by_error_has_the_least_size_of_all(options: list[LayerOptions], limit: int) -> None:
    sums = every_sum(options)
    within = [size for error, size in sums if error <= limit / 64]
    if within:
        allocation = allocate_error(options, limit / 64)
        assert is_of_table(options, allocation)
        assert allocation.error <= limit / 64
        assert allocation.size_bytes == min(within)
    else:
        with pytest.raises(BudgetError) as caught:
            allocate_error(options, limit / 64)
        assert caught.value.nearest == min(error for error, _ in sums)


@given(tables())
def test_sweep_is_the_convex_front_between_the_extremes(options: list[LayerOptions]) -> None:
    points = sweep(options)
    assert points[0] == smallest(options)
    assert points[-1].error == most_precise(options).error
    for before, after in itertools.pairwise(points):
        assert before.size_bytes < after.size_bytes
        assert before.error > after.error
        assert sum(before.bits[name] != bits for name, bits in after.bits.items()) == 1
    for point in points:
        assert is_of_table(options, point)
        assert allocate(options, point.size_bytes).error == point.error


@given(tables(), st.integers(2, 5))
def test_sweep_keeps_both_ends_when_points_are_few(options: list[LayerOptions], num_points: int) -> None:
    whole, few = sweep(options), sweep(options, num_points)
    assert len(few) <= num_points
    assert (few[0], few[-1]) == (whole[0], whole[-1])
    assert set(map(id_of, few)) <= set(map(id_of, whole))


def id_of(allocation: Allocation) -> tuple[float, float, tuple[int, ...]]:
    return allocation.size_bytes, allocation.error, tuple(allocation.bits.values())


def test_allocation_says_what_can_be_reached_when_the_budget_is_too_small() -> None:
    options = [layer("stem", {8: (0.0, 900.0)}), layer("head", {4: (0.5, 2_000.5), 8: (0.1, 4_000.0)})]
    with pytest.raises(BudgetError, match=r"2,900 bytes cannot be met: the smallest reachable is 2,901 bytes"):
        allocate(options, 2_900)
    assert allocate(options, 2_900.5).bits == {"stem": 8, "head": 4}


def test_allocation_of_no_layers_is_empty() -> None:
    assert allocate([], 0) == Allocation(bits={}, error=0.0, size_bytes=0.0)


def test_allocation_never_meets_a_budget_that_is_not_a_number() -> None:
    with pytest.raises(BudgetError):
        allocate([layer("stem", {8: (0.0, 1.0)})], math.nan)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("field", ["error", "size"])
def test_allocation_names_the_layer_when_the_table_holds_a_bad_number(bad: float, field: str) -> None:
    costs = (bad, 10.0) if field == "error" else (0.1, bad)
    options = [layer("stem", {8: (0.0, 5.0)}), layer("deep/conv", {4: costs, 8: (0.0, 20.0)})]
    with pytest.raises(QuantizationError, match="'deep/conv' at 4 bits"):
        allocate(options, 100)


def test_allocation_refuses_a_layer_without_candidates_and_one_named_twice() -> None:
    with pytest.raises(QuantizationError, match="'stem' has no number of bits"):
        allocate([layer("stem", {})], 100)
    with pytest.raises(QuantizationError, match="'stem' stands twice"):
        sweep([layer("stem", {8: (0.0, 1.0)})] * 2)


def test_sweep_refuses_a_single_point() -> None:
    with pytest.raises(ValueError, match="at least 2 points"):
        sweep([layer("stem", {8: (0.0, 1.0)})], 1)
