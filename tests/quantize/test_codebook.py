from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.core.errors import RecipeError
from edgekit.quantize.clustering import MAX_DISTINCT, cluster_lloyd, cluster_optimal, nearest
from edgekit.quantize.codebook import Sharing, read_codebook, share

METHODS: tuple[Literal["optimal", "lloyd"], ...] = ("optimal", "lloyd")
FLOATS = st.floats(-100, 100, width=32)


def error(values: npt.NDArray[np.float64], costs: npt.NDArray[np.float64], centroids: npt.NDArray[np.float64]) -> float:
    return float((costs * np.square(values - centroids[nearest(centroids, values)])).sum())


def exhaustive(values: npt.NDArray[np.float64], costs: npt.NDArray[np.float64], num_clusters: int) -> float:
    """Least error over every way to cut sorted values into intervals."""
    best = np.inf
    for cuts in itertools.combinations(range(1, len(values)), num_clusters - 1):
        edges = [0, *cuts, len(values)]
        total = 0.0
        for start, end in itertools.pairwise(edges):
            mean = np.average(values[start:end], weights=costs[start:end])
            total += float((costs[start:end] * np.square(values[start:end] - mean)).sum())
        best = min(best, total)
    return best


@given(hnp.arrays(np.float64, st.integers(2, 9), elements=FLOATS, unique=True), st.integers(1, 5), st.integers(0, 99))
def test_optimal_is_as_good_as_an_exhaustive_search(
    values: npt.NDArray[np.float64], num_clusters: int, seed: int
) -> None:
    values = np.sort(values)
    costs = np.random.default_rng(seed).uniform(0.1, 5, len(values))
    found = cluster_optimal(values, costs, num_clusters)
    assert len(found) <= num_clusters or len(found) == len(values) <= num_clusters
    expected = exhaustive(values, costs, min(num_clusters, len(values)))
    assert error(values, costs, found) <= expected * (1 + 1e-6) + 1e-7


@pytest.mark.parametrize("start", ["linear", "density", "random"])
def test_optimal_is_never_worse_than_lloyd(start: Literal["linear", "density", "random"]) -> None:
    weights = np.random.default_rng(1).laplace(size=4000)
    errors = [
        float(np.square(share(weights, Sharing(num_clusters=16, method=method, start=start)).values - weights).sum())
        for method in METHODS
    ]
    assert errors[0] <= errors[1] * (1 + 1e-6)


def test_merging_costs_next_to_nothing() -> None:
    values = np.sort(np.random.default_rng(2).normal(size=4 * MAX_DISTINCT))
    costs = np.ones_like(values)
    merged = error(values, costs, cluster_optimal(values, costs, 16))
    refined = error(values, costs, cluster_lloyd(values, costs, cluster_optimal(values, costs, 16)))
    assert merged <= refined * 1.001


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=6), elements=FLOATS), st.integers(2, 20))
def test_sharing_keeps_zeros_and_only_zeros_at_zero(weights: npt.NDArray[np.float32], num_clusters: int) -> None:
    weights[np.abs(weights) < 1] = 0
    book = share(weights, Sharing(num_clusters=num_clusters))
    assert book.values.shape == weights.shape
    assert np.array_equal(book.values == 0, weights == 0)
    assert len(book.centroids) <= num_clusters
    assert (np.diff(book.centroids) > 0).all()


@given(hnp.arrays(np.float32, st.integers(1, 60), elements=FLOATS), st.integers(1, 20), st.booleans())
def test_enough_clusters_change_nothing(weights: npt.NDArray[np.float32], spare: int, pin_zero: bool) -> None:
    num_clusters = len(np.unique(weights)) + spare
    book = share(weights, Sharing(num_clusters=num_clusters, pin_zero=pin_zero))
    assert np.array_equal(book.values, weights)


def test_important_weights_are_met_better() -> None:
    generator = np.random.default_rng(3)
    weights = generator.normal(size=500)
    importance = np.where(weights > 1, 1000.0, 1.0)
    plain, weighted = (share(weights, Sharing(num_clusters=4), costs) for costs in (None, importance))
    assert np.abs(weighted.values - weights)[weights > 1].mean() < np.abs(plain.values - weights)[weights > 1].mean()


def test_all_zero_weights_are_one_cluster() -> None:
    book = share(np.zeros((2, 3), np.float32), Sharing(num_clusters=1))
    assert book.centroids.tolist() == [0.0]
    assert book.indices.dtype == np.uint8


def test_more_than_256_clusters_take_two_bytes() -> None:
    book = share(np.arange(300, dtype=np.float32), Sharing(num_clusters=300))
    assert book.indices.dtype == np.uint16


@pytest.mark.parametrize(
    ("weights", "sharing", "words"),
    [
        ([1.0, 2.0], Sharing(num_clusters=0), "0 clusters"),
        ([1.0, 2.0], Sharing(num_clusters=70_000), "70000 clusters"),
        ([0.0, 2.0], Sharing(num_clusters=1), "zero's"),
        ([np.nan, 2.0], Sharing(num_clusters=2), "finite"),
        ([], Sharing(num_clusters=2), "at least one"),
    ],
)
def test_what_cannot_be_shared_is_refused(weights: list[float], sharing: Sharing, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        share(np.array(weights, np.float32), sharing)


@pytest.mark.parametrize("importance", [[1.0], [-1.0, 1.0]])
def test_importance_that_does_not_fit_is_refused(importance: list[float]) -> None:
    with pytest.raises(RecipeError, match="importance"):
        share(np.array([1.0, 2.0]), Sharing(num_clusters=2), importance)


def test_unimportant_weights_get_the_nearest_value() -> None:
    weights = np.array([1.0, 1.5, 5.0, 5.5, 9.0])
    book = share(weights, Sharing(num_clusters=2), np.array([1.0, 1.0, 1.0, 1.0, 0.0]))
    assert book.centroids.tolist() == [1.25, 5.25]
    assert book.indices.tolist() == [0, 0, 1, 1, 1]


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=6), elements=FLOATS),
    st.integers(2, 9),
    st.integers(1, 8),
)
def test_every_channel_group_is_shared_by_itself(
    weights: npt.NDArray[np.float32], num_clusters: int, num_groups: int
) -> None:
    book = share(weights, Sharing(num_clusters=num_clusters, num_groups=num_groups))
    assert len(book.group_sizes) == min(num_groups, len(weights))
    assert max(book.group_sizes) <= num_clusters
    assert sum(book.group_sizes) == len(book.centroids)
    for part, values in zip(
        np.array_split(weights, len(book.group_sizes)), np.array_split(book.values, len(book.group_sizes)), strict=True
    ):
        assert np.array_equal(values, share(part, Sharing(num_clusters=num_clusters)).values)


@given(hnp.arrays(np.float32, st.integers(1, 60), elements=FLOATS), st.integers(2, 20), st.integers(1, 9))
def test_shared_tensor_shows_its_codebook(weights: npt.NDArray[np.float32], num_clusters: int, num_groups: int) -> None:
    values = share(weights, Sharing(num_clusters=num_clusters, num_groups=num_groups)).values
    book = read_codebook(values, num_groups)
    assert np.array_equal(book.values, values)
    assert max(book.group_sizes) <= num_clusters


def test_groups_have_importance_of_their_own() -> None:
    weights = np.array([[1.0, 2.0, 9.0], [1.0, 2.0, 9.0]])
    importance = np.array([[1.0, 1.0, 1.0], [3.0, 1.0, 1.0]])
    book = share(weights, Sharing(num_clusters=2, num_groups=2), importance)
    assert book.centroids.tolist() == [1.5, 9.0, 1.25, 9.0]
    assert book.indices.tolist() == [[0, 0, 1], [2, 2, 3]]
    assert book.group_sizes == (2, 2)


def test_no_channel_groups_are_refused() -> None:
    with pytest.raises(RecipeError, match="0 channel groups"):
        share(np.array([1.0, 2.0]), Sharing(num_clusters=2, num_groups=0))


@pytest.mark.parametrize("weights", [[np.nan, 1.0], [np.inf], []])
def test_codebook_of_no_numbers_is_not_read(weights: list[float]) -> None:
    with pytest.raises(RecipeError, match="finite"):
        read_codebook(np.array(weights, np.float32))
