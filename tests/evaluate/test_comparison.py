from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from edgekit.core.errors import DataError
from edgekit.evaluate.comparison import compare_answers, is_told_apart, matched_interval, mcnemar


def one_hot(answers: list[int], num_classes: int = 3) -> np.ndarray:
    return np.eye(num_classes, dtype=np.float32)[answers]


class TestMcnemar:
    def test_known_survey_is_told_apart(self) -> None:
        # Agresti, "Categorical Data Analysis", table of two surveys on the prime minister's performance: 150 and 86
        # changed their minds; without the correction z^2 = 17.36.
        p_value, is_exact = mcnemar(150, 86)
        assert not is_exact
        assert p_value == pytest.approx(4.115e-5, rel=1e-3)  # (64 - 1)^2 / 236 = 16.818

    @given(only_first=st.integers(0, 24), only_second=st.integers(0, 24))
    def test_few_discordant_pictures_are_tested_exactly(self, only_first: int, only_second: int) -> None:
        total = only_first + only_second
        p_value, is_exact = mcnemar(only_first, only_second)
        assert is_exact == (total < 25)
        if is_exact:
            expected = min(1.0, 2 * binom.cdf(min(only_first, only_second), total, 0.5)) if total else 1.0
            assert p_value == pytest.approx(expected, abs=1e-9)

    @given(only_first=st.integers(0, 500), only_second=st.integers(0, 500))
    def test_order_of_the_models_does_not_matter(self, only_first: int, only_second: int) -> None:
        assert mcnemar(only_first, only_second) == mcnemar(only_second, only_first)

    def test_approximation_is_near_the_exact_test_where_it_begins(self) -> None:
        for only_first in range(8, 13):
            exact = 2 * binom.cdf(only_first, 25, 0.5)
            assert mcnemar(only_first, 25 - only_first)[0] == pytest.approx(min(1.0, exact), abs=0.02)


class TestMatchedInterval:
    def test_interval_is_the_published_one(self) -> None:
        # The survey again, n = 1600: Agresti and Min give (0.020, 0.059) for 0.04.
        low, high = matched_interval(150, 86, 1600)
        assert (round(low, 3), round(high, 3)) == (0.021, 0.059)

    def test_interval_has_a_width_when_nothing_is_discordant(self) -> None:
        low, high = matched_interval(0, 0, 50)
        assert low < 0 < high

    def test_interval_stays_within_one(self) -> None:
        assert matched_interval(3, 0, 3)[1] <= 1.0


class TestCompare:
    def test_cells_count_every_picture_once(self) -> None:
        labels = np.array([0, 0, 1, 1, 2, 2])
        first, second = one_hot([0, 0, 1, 0, 0, 0]), one_hot([0, 1, 0, 1, 0, 1])
        found = compare_answers(first, second, labels)
        cells = (found.num_both_right, found.num_only_first, found.num_only_second, found.num_both_wrong)
        assert cells == (1, 2, 1, 2)
        assert found.difference == pytest.approx(1 / 6)
        assert found.same_answer == pytest.approx(2 / 6)
        assert found.p_value == 1.0
        assert not is_told_apart(found)

    def test_model_against_itself_has_no_discordant_picture_also_when_classes_tie(self) -> None:
        logits = np.zeros((30, 4), np.float32)
        found = compare_answers(logits, logits, np.arange(30) % 4)
        assert (found.num_only_first, found.num_only_second, found.p_value) == (0, 0, 1.0)
        assert found.same_answer == 1.0

    def test_clear_difference_is_told_apart(self) -> None:
        labels = np.zeros(40, np.int64)
        found = compare_answers(one_hot([0] * 40), one_hot([1] * 10 + [0] * 30), labels)
        assert found.p_value == pytest.approx(2 * 0.5**10)
        assert is_told_apart(found)

    @pytest.mark.parametrize(
        ("second", "labels", "message"),
        [
            (np.zeros((2, 4)), np.array([0, 1]), "cannot be compared"),
            (np.full((2, 3), np.nan), np.array([0, 1]), "NaN"),
            (np.zeros((2, 3)), np.array([0, 3]), "expected 0 to 2"),
        ],
    )
    def test_answers_that_cannot_be_compared_are_refused(
        self, second: np.ndarray, labels: np.ndarray, message: str
    ) -> None:
        with pytest.raises(DataError, match=message):
            compare_answers(np.zeros((2, 3)), second, labels)

    def test_no_picture_is_refused(self) -> None:
        with pytest.raises(DataError, match="no picture"):
            compare_answers(np.empty((0, 3)), np.empty((0, 3)), np.empty(0, np.int64))
