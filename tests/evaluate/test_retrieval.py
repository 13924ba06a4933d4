from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from edgekit.core.errors import DataError, GraphError
from edgekit.core.measurement import wilson_interval
from edgekit.evaluate.retrieval import closeness, precision_at_k


def clusters(num: int, width: int, num_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num)
    centres = rng.standard_normal((num_classes, width))
    return (centres[labels] + rng.standard_normal((num, width))).astype(np.float32), labels


def by_sklearn(features: np.ndarray, labels: np.ndarray, k: int) -> float:
    found = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine").fit(features.astype(np.float64))
    _, indices = found.kneighbors()  # without an argument, a point is not its own neighbour
    return float((labels[indices] == labels[:, np.newaxis]).mean())


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), num=st.integers(12, 700), width=st.integers(2, 40), num_classes=st.integers(1, 9))
def test_precision_is_that_of_scikit_learn(seed: int, num: int, width: int, num_classes: int) -> None:
    features, labels = clusters(num, width, num_classes, seed)
    rows = precision_at_k(features, labels)
    assert [row.k for row in rows] == [1, 5, 10]
    for row in rows:
        assert row.share == pytest.approx(by_sklearn(features, labels, row.k), abs=1e-12)
        assert row.n == num


def test_precision_of_pictures_that_repeat_follows_their_order() -> None:
    features = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    labels = np.array([0, 1, 0, 1])
    (row,) = precision_at_k(features, labels, (1,))
    # picture 0 finds 1 (wrong), 1 finds 0 (wrong), 2 finds 0 (right), 3 finds the first of three that are like nothing
    assert row.share == pytest.approx(1 / 4)
    assert row.ci95 == wilson_interval(1, 4)


def test_every_class_apart_is_found_wholly() -> None:
    labels = np.repeat(np.arange(3), 11)
    rows = precision_at_k(np.eye(3, dtype=np.float32)[labels], labels)
    assert [row.share for row in rows] == [1.0, 1.0, 1.0]


def test_k_of_as_many_as_there_are_pictures_is_left_out() -> None:
    features, labels = clusters(6, 4, 2, 0)
    assert [row.k for row in precision_at_k(features, labels)] == [1, 5]
    assert precision_at_k(features[:1], labels[:1]) == ()
    assert precision_at_k(features[:0], labels[:0]) == ()


def test_labels_that_do_not_fit_are_refused() -> None:
    features, labels = clusters(6, 4, 2, 0)
    with pytest.raises(DataError, match="5 labels for 6 pictures"):
        precision_at_k(features, labels[:5])
    with pytest.raises(DataError, match="k above 0"):
        precision_at_k(features, labels, (0, 1))


def test_features_that_are_not_finite_are_refused() -> None:
    features, labels = clusters(6, 4, 2, 0)
    features[3, 2] = np.nan
    with pytest.raises(GraphError, match="NaN or infinite"):
        precision_at_k(features, labels)


def test_closeness_is_the_cosine_of_each_picture() -> None:
    near = closeness(np.array([[1, 0], [2, 2]], np.float32), np.array([[3, 0], [0, 1]], np.float32))
    assert (near.mean, near.least) == (pytest.approx((1 + 0.5**0.5) / 2), pytest.approx(0.5**0.5))
    assert near.n == 2


def test_closeness_of_pictures_in_which_neither_sees_anything_is_one() -> None:
    near = closeness(np.array([[0, 0], [0, 0]], np.float32), np.array([[0, 0], [0, 1]], np.float32))
    assert (near.mean, near.least) == (0.5, 0.0)


def test_closeness_of_nothing_or_of_other_shapes_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be compared"):
        closeness(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32))
    with pytest.raises(DataError, match="cannot be compared"):
        closeness(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))
