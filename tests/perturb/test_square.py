"""The square attack, on a network and on its exported file."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attack_toys import Toy
from edgekit.core.errors import DataError, UsageError
from edgekit.perturb.gradient import margins
from edgekit.perturb.square import Predict, share_at, square_attack

EPSILON = 0.35


def linear_predict(shape: tuple[int, ...], seed: int) -> Predict:
    weights = np.random.default_rng(seed).normal(size=(3, *shape))
    return lambda pictures: np.einsum("nhwc,khwc->nk", pictures / 255, weights).astype(np.float32)


@given(
    levels=st.integers(0, 255),
    num=st.integers(0, 3),
    channels=st.sampled_from([1, 3]),
    size=st.sampled_from([(1, 1), (4, 5), (7, 3)]),
    seed=st.integers(0, 1000),
)
def test_result_is_within_epsilon_and_never_better_for_the_model(
    levels: int, num: int, channels: int, size: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (num, *size, channels)).astype(np.uint8)
    before, labels = pictures.copy(), rng.integers(0, 3, num)
    predict = linear_predict((*size, channels), seed)

    attacked = square_attack(predict, pictures, labels, levels / 255, 12, rng)

    assert (attacked.dtype, attacked.shape) == (np.uint8, pictures.shape)
    assert int(np.abs(attacked.astype(int) - pictures).max(initial=0)) <= levels
    np.testing.assert_array_equal(pictures, before)
    assert not np.shares_memory(attacked, pictures)
    if num:
        assert (margins(predict(attacked), labels) <= margins(predict(pictures), labels)).all()
    if levels == 0:
        np.testing.assert_array_equal(attacked, pictures)


def test_attack_lowers_accuracy_of_the_exported_int8_file(toy: Toy, int8_predict: Predict) -> None:
    clean = int8_predict(toy.pictures).argmax(axis=1) == toy.labels

    attacked = square_attack(int8_predict, toy.pictures, toy.labels, EPSILON, 200, np.random.default_rng(0))

    still = int8_predict(attacked).argmax(axis=1) == toy.labels
    assert clean.mean() > 0.95
    assert still.mean() < clean.mean() - 0.3
    np.testing.assert_array_equal(attacked[~clean], toy.pictures[~clean])


def test_more_queries_break_more(toy: Toy) -> None:
    accuracies = [
        toy.accuracy(
            square_attack(toy.predict, toy.pictures, toy.labels, EPSILON, num_queries, np.random.default_rng(0))
        )
        for num_queries in (1, 2, 30, 300)
    ]

    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] == toy.accuracy(toy.pictures)  # the one query is that of the unchanged picture
    assert accuracies[-1] < accuracies[1]


def test_whole_range_is_a_valid_epsilon(toy: Toy) -> None:
    attacked = square_attack(toy.predict, toy.pictures, toy.labels, 1, 200, np.random.default_rng(0))

    assert toy.accuracy(attacked) < 0.3


def test_only_pictures_that_are_still_right_are_asked_about(toy: Toy) -> None:
    labels = toy.labels.copy()
    labels[:10] = (labels[:10] + 1) % 4  # wrong from the start
    asked: list[int] = []

    def counting(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        asked.append(len(pictures))
        return toy.predict(pictures)

    attacked = square_attack(counting, toy.pictures, labels, EPSILON, 60, np.random.default_rng(0))

    assert asked[:2] == [40, 30]
    assert asked == sorted(asked, reverse=True)
    assert asked[-1] < 30
    assert len(asked) <= 60
    np.testing.assert_array_equal(attacked[:10], toy.pictures[:10])


def test_attack_repeats_itself(toy: Toy) -> None:
    first, again, other = (
        square_attack(toy.predict, toy.pictures, toy.labels, 0.1, 20, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_model_that_always_answers_the_same_ends_the_attack_when_its_queries_are_spent() -> None:
    pictures = np.full((2, 6, 6, 3), 128, np.uint8)
    asked: list[int] = []

    def same(given: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        asked.append(len(given))
        return np.tile(np.array([[1, 0]], np.float32), (len(given), 1))

    square_attack(same, pictures, np.zeros(2, np.int64), 0.1, 15, np.random.default_rng(0))

    assert asked == [2] * 15


@pytest.mark.parametrize("num_queries", [100, 1000, 20_000])
def test_schedule_is_stretched_to_the_number_of_queries(num_queries: int) -> None:
    shares = [share_at(query, num_queries) for query in range(num_queries)]

    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == shares[0] / 512
    assert shares[num_queries // 2] == shares[0] / 128  # between 4,000 and 6,000 of 10,000


def test_bad_input_is_refused(toy: Toy) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match="epsilon"):
        square_attack(toy.predict, toy.pictures, toy.labels, 1.5, 5, rng)
    with pytest.raises(UsageError, match="num_queries"):
        square_attack(toy.predict, toy.pictures, toy.labels, 0.1, 0, rng)
    with pytest.raises(DataError, match="4 classes"):
        square_attack(toy.predict, toy.pictures, toy.labels + 1, 0.1, 5, rng)
    with pytest.raises(DataError, match="expected uint8"):
        square_attack(toy.predict, toy.pictures.astype(np.float32), toy.labels, 0.1, 5, rng)  # type: ignore[arg-type]
