from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.core.errors import GraphError
from edgekit.retrieval import nearest
from edgekit.retrieval.nearest import Best, nearest_others, similarities, to_unit


def brute_force(vectors: np.ndarray, k: int) -> list[list[int]]:
    """Python's own sort, one query after the other."""
    found = []
    for query in range(len(vectors)):
        scores = similarities(vectors[query], vectors)
        others = [index for index in range(len(vectors)) if index != query]
        found.append(sorted(others, key=lambda index: (-scores[index], index))[:k])
    return found


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    num=st.integers(2, 60),
    width=st.integers(1, 8),
    levels=st.integers(1, 4),
    block=st.integers(1, 70),
)
def test_nearest_others_are_those_of_brute_force_when_many_tie(
    seed: int, num: int, width: int, levels: int, block: int
) -> None:
    # Few levels: vectors repeat, and so do their similarities.
    drawn = np.random.default_rng(seed).integers(0, levels + 1, (num, width)).astype(np.float32)
    vectors = to_unit(drawn)
    k = min(10, num - 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "_BLOCK", block)
        found = nearest_others(vectors, k)

    assert found.tolist() == brute_force(vectors, k)


def test_equal_vectors_come_in_their_order_when_there_are_very_many() -> None:
    vectors = to_unit(np.ones((1500, 3), np.float32))
    found = nearest_others(vectors, 3)
    assert found[0].tolist() == [1, 2, 3]
    assert found[1400].tolist() == [0, 1, 2]


def test_similarity_to_itself_is_exactly_one() -> None:
    vectors = to_unit(np.random.default_rng(0).standard_normal((200, 77)).astype(np.float32))
    assert all(similarities(vector, vector[np.newaxis])[0] == 1.0 for vector in vectors)


def test_vector_of_zeros_is_like_nothing() -> None:
    vectors = to_unit(np.array([[0, 0], [3, 4]], np.float32))
    assert vectors.tolist() == [[0.0, 0.0], [pytest.approx(0.6), pytest.approx(0.8)]]
    assert similarities(vectors[0], vectors).tolist() == [0.0, 0.0]
    assert similarities(vectors[1], vectors).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(GraphError, match="NaN or infinite"):
        to_unit(np.array([[1.0, value]], np.float32))


@settings(max_examples=50)
@given(scores=st.lists(st.integers(0, 5), min_size=1, max_size=40), k=st.integers(1, 12), size=st.integers(1, 7))
def test_best_of_a_stream_is_the_head_of_the_sorted_whole(scores: list[int], k: int, size: int) -> None:
    names = [f"picture {index}" for index in range(len(scores))]
    best = Best(k)
    for start in range(0, len(scores), size):
        best.add(np.array(scores[start : start + size], np.float64), names[start : start + size])

    pairs = sorted(zip(names, map(float, scores), strict=True), key=lambda pair: -pair[1])
    assert list(best.ranked) == pairs[:k]
