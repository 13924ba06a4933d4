"""Narrowing what must stay divided into equal parts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.prune.channel_map import Partition
from edgekit.prune.parts import Prunable, choose_evenly, couple


def group(*units: int, layer: str = "a", width: int = 1, reason: str | None = None) -> Prunable:
    return Prunable(layers=(layer,), widths=dict.fromkeys(units, width), reason=reason)


def partition(*parts: list[int]) -> Partition:
    return Partition(layer="conv", parts=np.array(parts))


def is_even(each: Partition, removed: set[int]) -> bool:
    return len(set(np.isin(each.parts, list(removed)).sum(1).tolist())) == 1


def test_each_part_loses_its_least_important_units() -> None:
    scores = dict(enumerate([4.0, 3.0, 2.0, 1.0, 9.0, 8.0, 6.0, 7.0]))
    removed = choose_evenly([group(*range(8))], [partition([0, 1, 2, 3], [4, 5, 6, 7])], scores, 0.5, 1)
    assert removed == {2, 3, 6, 7}


def test_groups_are_narrowed_together_when_a_part_spans_them() -> None:
    """A concatenation of 2 and 4 channels in two parts of 3: neither side could lose a channel alone."""
    groups = [group(0, 1, layer="left"), group(2, 3, 4, 5, layer="right")]
    each = partition([0, 1, 2], [3, 4, 5])
    removed = choose_evenly(groups, [each], dict.fromkeys(range(6), 1.0), 0.5, 1)
    assert is_even(each, removed)
    assert len(removed) == 2


def test_units_of_a_group_that_stays_are_not_touched() -> None:
    groups = [group(0, 1, reason="the model's input"), group(2, 3, 4, 5)]
    each = partition([0, 1, 2], [3, 4, 5])
    removed = choose_evenly(groups, [each], dict.fromkeys(range(6), 1.0), 0.5, 1)
    assert 2 in removed
    assert len(removed) == 2


def test_kept_width_is_a_multiple_where_that_costs_less_than_half() -> None:
    each = partition([*range(12)], [*range(12, 24)])
    scores = dict.fromkeys(range(24), 1.0)
    assert len(choose_evenly([group(*range(24))], [each], scores, 0.4, 8)) == 8
    # 0.3 of 24 are 7, and 16 would be the next multiple of 8
    assert len(choose_evenly([group(*range(24))], [each], scores, 0.3, 8)) == 6


def test_nothing_goes_when_parts_cannot_lose_alike() -> None:
    groups = [group(0, 1), group(2, 3, layer="b", reason="ignored")]
    assert choose_evenly(groups, [partition([0, 1], [2, 3])], dict.fromkeys(range(4), 1.0), 0.9, 1) == set()


def test_groups_that_share_no_uneven_partition_are_decided_alone() -> None:
    groups = [group(0, 1), group(2, 3, layer="b"), group(4, 5, layer="c")]
    uneven, even = partition([0, 1], [2, 3]), partition([4, 5], [4, 5])
    coupled = couple(groups, [uneven, even])
    assert [places for places, _ in coupled] == [[0, 1], [2]]
    assert [[each.parts.tolist() for each in partitions] for _, partitions in coupled] == [[uneven.parts.tolist()], []]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Prunable], list[Partition], dict[int, float], float]:
    """Up to three groups over 12 channels, two partitions of them in other orders, some units twice as wide."""
    num_units = 12
    places = draw(st.lists(st.integers(0, 2), min_size=num_units, max_size=num_units))
    groups = [
        Prunable(
            layers=(str(place),),
            widths={unit: 1 for unit in range(num_units) if places[unit] == place},
            reason=draw(st.sampled_from([None, None, "stays"])),
        )
        for place in sorted(set(places))
    ]
    partitions = [
        Partition(layer="conv", parts=np.array(draw(st.permutations(range(num_units)))).reshape(parts, -1))
        for parts in draw(st.lists(st.sampled_from([2, 3, 4]), min_size=1, max_size=2))
    ]
    scores = {unit: draw(st.floats(0, 10)) for unit in range(num_units)}
    return groups, partitions, scores, draw(st.floats(0, 0.95))


@settings(max_examples=20, deadline=None)
@given(cases())
def test_choice_is_even_within_the_ratio_and_as_large_as_can_be(
    case: tuple[list[Prunable], list[Partition], dict[int, float], float],
) -> None:
    groups, partitions, scores, ratio = case

    def is_allowed(removed: set[int]) -> bool:
        return all(is_even(each, removed) for each in partitions) and all(
            len(removed & each.widths.keys()) <= ratio * len(each.widths) + 1e-9
            and (each.reason is None or not removed & each.widths.keys())
            for each in groups
        )

    removed = choose_evenly(groups, partitions, scores, ratio, 1)

    assert is_allowed(removed)
    assert removed == choose_evenly(groups, partitions, scores, ratio, 1)
    larger = itertools.chain.from_iterable(
        itertools.combinations(range(12), count) for count in range(len(removed) + 1, 12)
    )
    assert not any(is_allowed(set(units)) for units in larger)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_tied_channels_count_by_their_width(ratio: float) -> None:
    each = partition([0, 0, 1, 1], [2, 2, 3, 3])
    removed = choose_evenly([group(0, 1, 2, 3, width=2)], [each], dict.fromkeys(range(4), 1.0), ratio, 1)
    assert len(removed) == (0 if ratio < 0.5 else 2)
