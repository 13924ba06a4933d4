"""Buckets whose edges bound what is in them, whatever its magnitude."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.agent.telemetry.histogram import MAX_NS, NUM_BUCKETS, Histogram, bucket_of, to_ns, upper_edge_ns
from edgekit.core.measurement import percentile_bound

durations = st.integers(0, MAX_NS)


def filled(samples: list[int]) -> Histogram:
    histogram = Histogram()
    for sample in samples:
        histogram.record(sample)
    return histogram


@given(durations)
def test_bucket_holds_its_durations_closely(nanoseconds: int) -> None:
    bucket = bucket_of(nanoseconds)

    assert 0 <= bucket < NUM_BUCKETS
    assert nanoseconds < upper_edge_ns(bucket) <= nanoseconds * (1 + 1 / 128) + 1
    assert bucket == 0 or upper_edge_ns(bucket - 1) <= nanoseconds


@given(durations, durations)
def test_buckets_rise_with_their_durations(first: int, second: int) -> None:
    assert (bucket_of(first) <= bucket_of(second)) == (first <= second or bucket_of(first) == bucket_of(second))


@given(st.lists(durations, min_size=1, max_size=900), st.sampled_from([0.90, 0.99]))
def test_bound_is_the_upper_edge_of_the_bucket_of_the_exact_sample(samples: list[int], percentile: float) -> None:
    exact = percentile_bound(samples, percentile)
    told = filled(samples).percentile_bound_ns(percentile)

    expected = None if exact is None else min(upper_edge_ns(bucket_of(int(exact))), max(samples))
    assert told == (max(samples) if exact is not None and bucket_of(int(exact)) == NUM_BUCKETS - 1 else expected)


@given(st.lists(durations, min_size=1, max_size=200))
def test_median_sum_and_maximum_of_what_was_recorded(samples: list[int]) -> None:
    histogram = filled(samples)
    middle = sorted(samples)[len(samples) // 2]

    assert histogram.n == len(samples)
    assert histogram.max_ns == max(samples)
    assert histogram.mean_ns == pytest.approx(sum(samples) / len(samples))
    median = histogram.median_ns()
    assert median is not None
    assert middle <= median <= min(middle * (1 + 1 / 128) + 1, max(samples))


@given(st.lists(durations, max_size=100), st.lists(durations, max_size=100))
def test_adding_is_recording_both(first: list[int], second: list[int]) -> None:
    added = filled(first)
    added.add(filled(second))
    both = filled(first + second)

    assert (added.n, added.sum_ns, added.max_ns) == (both.n, both.sum_ns, both.max_ns)
    assert added.median_ns() == both.median_ns()
    assert added.percentile_bound_ns(0.5) == both.percentile_bound_ns(0.5)


def test_memory_is_constant_and_small() -> None:
    histogram = filled([17 * 10**k for k in range(11)])
    size = histogram._counts.buffer_info()[1]

    for _ in range(10_000):
        histogram.record(123_456_789)

    assert histogram._counts.buffer_info()[1] == size
    assert size * 8 < 40_000


def test_what_is_out_of_range_is_counted_and_bounded_by_the_maximum() -> None:
    histogram = filled([-5] * 50 + [MAX_NS * 1000] * 50)

    assert histogram.n == 100
    assert histogram.max_ns == MAX_NS * 1000
    assert histogram.percentile_bound_ns(0.9) == MAX_NS * 1000
    assert histogram.median_ns() == MAX_NS * 1000


def test_an_empty_histogram_tells_nothing() -> None:
    assert Histogram().median_ns() is None
    assert Histogram().percentile_bound_ns(0.9) is None
    assert Histogram().mean_ns == 0.0


@pytest.mark.parametrize(("milliseconds", "nanoseconds"), [(0.0, 0), (1e-6, 1), (math.inf, 0), (math.nan, 0), (-1, 0)])
def test_to_ns_takes_what_is_no_duration_for_zero(milliseconds: float, nanoseconds: int) -> None:
    assert to_ns(milliseconds) == nanoseconds
