"""How far a picture may be changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import DataError, UsageError
from edgekit.perturb.ball import ball_around, check_labels, count_levels


@pytest.mark.parametrize("epsilon", [-0.01, 1.01, float("nan"), float("inf"), -float("inf"), 8])
def test_epsilon_outside_its_range_is_refused(epsilon: float) -> None:
    with pytest.raises(UsageError, match=r"expected 0 to 1"):
        count_levels(epsilon)


@given(levels=st.integers(0, 255))
def test_every_whole_number_of_levels_is_itself(levels: int) -> None:
    assert count_levels(levels / 255) == levels


@given(epsilon=st.floats(0, 1), seed=st.integers(0, 1000))
def test_ball_holds_exactly_the_pictures_within_epsilon(epsilon: float, seed: int) -> None:
    pictures = np.random.default_rng(seed).integers(0, 256, (2, 3, 4, 1)).astype(np.uint8)

    ball = ball_around(pictures, epsilon)

    radius = count_levels(epsilon)
    assert radius <= 255 * epsilon + 1e-6
    exact = pictures.astype(np.int64)
    np.testing.assert_array_equal(ball.lowest, np.maximum(exact - radius, 0))
    np.testing.assert_array_equal(ball.highest, np.minimum(exact + radius, 255))


@given(radius=st.integers(0, 255), seed=st.integers(0, 1000), scale=st.floats(0, 1e6, width=32))
def test_rounded_values_stay_in_the_ball(radius: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (2, 3, 4, 3)).astype(np.uint8)
    values = (pictures + scale * rng.standard_normal(pictures.shape)).astype(np.float32)

    rounded = ball_around(pictures, radius / 255).round(values)

    assert rounded.dtype == np.uint8
    assert int(np.abs(rounded.astype(int) - pictures.astype(int)).max()) <= radius


@pytest.mark.parametrize(
    "pictures", [np.zeros((2, 4, 4, 1), np.float32), np.zeros((4, 4, 1), np.uint8), np.zeros((1, 4, 4, 1), np.int64)]
)
def test_other_arrays_than_pictures_are_refused(pictures: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected uint8"):
        ball_around(pictures, 0.1)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (np.array([0, 1, 2]), "one a picture"),
        (np.array([0.0, 1.0]), "expected integers"),
        (np.array([0, -1]), "go down to -1"),
        (np.array([0, 4]), "the model has 4 classes"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray, match: str) -> None:
    with pytest.raises(DataError, match=match):
        check_labels(np.zeros((2, 4, 4, 1), np.uint8), labels, 4)
