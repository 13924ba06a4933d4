from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.core.errors import QuantizationError
from edgekit.quantize.histogram import MAX_SAMPLE, NUM_BINS, Histogram, HistogramObserver, merge

values = hnp.arrays(
    np.float32,
    st.integers(1, 200),
    elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)
    | st.floats(-8, 8, width=32)
    | st.just(0.0),
)


def observe(*batches: npt.NDArray[np.float32]) -> Histogram:
    observer = HistogramObserver("a")
    for batch in batches:
        observer.update(batch)
    return observer.finish()


def assert_same(first: Histogram, second: Histogram) -> None:
    assert (first.exponent, first.first, first.num_zeros) == (second.exponent, second.first, second.num_zeros)
    assert (first.lowest, first.highest) == (second.lowest, second.highest)
    np.testing.assert_array_equal(first.counts, second.counts)


@given(st.lists(values, min_size=1, max_size=5))
def test_histogram_is_the_same_streaming_and_at_once(batches: list[npt.NDArray[np.float32]]) -> None:
    assert_same(observe(*batches), observe(np.concatenate(batches)))


@given(st.lists(values, min_size=1, max_size=4))
def test_merged_histograms_equal_one_observer_of_all(batches: list[npt.NDArray[np.float32]]) -> None:
    assert_same(merge(observe(batch) for batch in batches), observe(*batches))


def test_negative_value_too_small_to_divide_lies_left_of_zero() -> None:
    histogram = observe(np.array([1e10, -1.2e-38, 1.2e-38], np.float32))
    assert histogram.counts[histogram.zero_bin - 1] == 1
    assert histogram.counts[histogram.zero_bin] == 1


@given(values)
def test_histogram_counts_every_value_in_its_bin(batch: npt.NDArray[np.float32]) -> None:
    histogram = observe(batch)
    assert histogram.num_values == batch.size
    assert histogram.num_zeros == int((batch == 0).sum())
    width = np.ldexp(1.0, histogram.exponent)
    index = np.floor(batch[batch != 0].astype(np.float64) / width).astype(int) - histogram.first
    np.testing.assert_array_equal(histogram.counts, np.bincount(index, minlength=NUM_BINS))


@given(values)
def test_histogram_bins_are_fine_beside_the_range(batch: npt.NDArray[np.float32]) -> None:
    histogram = observe(batch)
    span = max(histogram.highest, 0.0) - min(histogram.lowest, 0.0)
    assert np.ldexp(1.0, histogram.exponent) <= max(span / (NUM_BINS / 4), 1e-40)


def test_histogram_memory_does_not_grow_with_the_values() -> None:
    rng = np.random.default_rng(0)
    observer = HistogramObserver("a")
    for scale in range(40):
        observer.update((rng.normal(size=5000) * 1.5**scale).astype(np.float32))
    arrays = [value for value in vars(observer).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) == 8 * NUM_BINS
    assert observer.finish().num_values == 200_000


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_observer_names_the_activation_when_a_value_is_not_finite(bad: float) -> None:
    observer = HistogramObserver("features.3.conv")
    with pytest.raises(QuantizationError, match=r"features\.3\.conv.*(nan|inf)"):
        observer.update(np.array([1.0, bad, 2.0], dtype=np.float32))


def test_observer_without_values_is_an_error() -> None:
    observer = HistogramObserver("a")
    observer.update(np.zeros((0, 4), dtype=np.float32))
    with pytest.raises(QuantizationError, match="no calibration values"):
        observer.finish()


def test_histogram_borders_are_cut_to_the_values() -> None:
    histogram = observe(np.array([0.0, 1.0, 6.0, 6.0], dtype=np.float32))
    borders = histogram.borders()
    assert borders[histogram.zero_bin] == 0.0
    assert borders.max() == 6.0
    last = int(np.flatnonzero(histogram.counts)[-1])
    assert borders[last] == borders[last + 1] == 6.0


def test_large_maps_are_sampled_alike_in_any_batching() -> None:
    rng = np.random.default_rng(0)
    pictures = np.maximum(rng.normal(size=(3, 24, 56, 56)), 0).astype(np.float32)
    assert pictures[0].size > 2 * MAX_SAMPLE
    together, apart = observe(pictures), observe(*np.split(pictures, 3))
    assert_same(together, apart)
    assert together.highest == pictures.max()
    assert together.num_values == pytest.approx(pictures.size, rel=1e-3)
    assert together.num_zeros == pytest.approx((pictures == 0).sum(), rel=0.02)
    above = together.borders()[:-1] >= 1.0
    assert together.counts[above].sum() == pytest.approx((pictures >= 1.0).sum(), rel=0.05)
