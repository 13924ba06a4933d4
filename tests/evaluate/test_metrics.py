from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import top_k_accuracy_score

from edgekit.core.errors import DataError
from edgekit.evaluate.metrics import accuracy, agreement, answers, confusion, top_k_credit


@st.composite
def tied_answers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Logits of few levels, so that they tie, and labels."""
    num, num_classes = draw(st.integers(1, 6)), draw(st.integers(2, 5))
    logits = draw(npst.arrays(np.float32, (num, num_classes), elements=st.sampled_from([-1.0, 0.0, 1.0])))
    labels = draw(npst.arrays(np.int64, num, elements=st.integers(0, num_classes - 1)))
    return logits, labels


class TestAccuracy:
    @given(case=tied_answers(), k=st.integers(1, 5))
    def test_top_k_credit_is_the_mean_over_all_ways_to_break_ties(
        self, case: tuple[np.ndarray, np.ndarray], k: int
    ) -> None:
        logits, labels = case
        orders = list(permutations(range(logits.shape[1])))
        expected = np.zeros(len(labels))
        for order in orders:  # lexsort breaks ties by the permuted index
            ranked = np.array([np.lexsort((np.array(order), -row)) for row in logits])
            expected += (ranked[:, :k] == labels[:, np.newaxis]).any(axis=1)
        np.testing.assert_allclose(top_k_credit(logits, labels, k), expected / len(orders))

    def test_accuracy_equals_scikit_learn_when_nothing_ties(self) -> None:
        rng = np.random.default_rng(0)
        logits, labels = rng.standard_normal((500, 10)), rng.integers(0, 10, 500)
        measured = accuracy(logits, labels)
        assert measured.top1 == pytest.approx(top_k_accuracy_score(labels, logits, k=1))
        assert measured.top5 == pytest.approx(top_k_accuracy_score(labels, logits, k=5))
        assert measured.n == 500
        assert measured.ci95[0] < measured.top1 < measured.ci95[1]

    def test_accuracy_is_chance_when_all_classes_tie(self) -> None:
        logits = np.zeros((40, 8))
        for label in (0, 7):  # the lowest index has no advantage, the highest no handicap
            assert accuracy(logits, np.full(40, label)).top1 == pytest.approx(1 / 8)
            assert accuracy(logits, np.full(40, label)).top5 == pytest.approx(5 / 8)

    def test_accuracy_has_no_top5_when_there_are_five_classes(self) -> None:
        assert accuracy(np.eye(5), np.arange(5)).top5 is None
        assert accuracy(np.eye(6), np.arange(6)).top5 == 1.0

    def test_accuracy_knows_nothing_when_there_are_no_pictures(self) -> None:
        measured = accuracy(np.empty((0, 10)), np.empty(0, np.int64))
        assert (measured.n, measured.ci95) == (0, (0.0, 1.0))

    @pytest.mark.parametrize(
        ("logits", "labels", "message"),
        [
            (np.array([[0.0, np.nan]]), np.array([0]), "NaN"),
            (np.array([[0.0, np.inf]]), np.array([0]), "infinite"),
            (np.zeros((2, 3)), np.array([0, 3]), "expected 0 to 2"),
            (np.zeros((2, 3)), np.array([-1, 0]), "expected 0 to 2"),
            (np.zeros((2, 3)), np.array([0]), r"expected \[2\]"),
            (np.zeros(3), np.array([0]), r"expected \[n, classes\]"),
        ],
    )
    def test_accuracy_refuses_what_it_cannot_measure(
        self, logits: np.ndarray, labels: np.ndarray, message: str
    ) -> None:
        with pytest.raises(DataError, match=message):
            accuracy(logits, labels)


class TestAgreement:
    @given(case=tied_answers())
    def test_every_file_agrees_with_itself(self, case: tuple[np.ndarray, np.ndarray]) -> None:
        logits, _ = case
        measured = agreement(logits, logits)
        assert (measured.top1, measured.max_abs_error, measured.n) == (1.0, 0.0, len(logits))

    @given(one=tied_answers())
    def test_agreement_is_symmetric_and_a_share(self, one: tuple[np.ndarray, np.ndarray]) -> None:
        logits, _ = one
        other = np.roll(logits, 1, axis=1)
        assert agreement(logits, other) == agreement(other, logits)
        assert 0 <= agreement(logits, other).top1 <= 1

    def test_agreement_counts_a_tie_in_part(self) -> None:
        reference = np.array([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0]])
        quantized = np.array([[2.0, 2.0, 0.0], [0.0, 2.0, 1.0]])
        measured = agreement(quantized, reference)
        assert measured.top1 == pytest.approx((1 / 2 + 0) / 2)
        assert measured.max_abs_error == 3.0

    def test_agreement_refuses_different_shapes(self) -> None:
        with pytest.raises(DataError, match="cannot be compared"):
            agreement(np.zeros((2, 3)), np.zeros((2, 4)))

    def test_agreement_knows_nothing_when_there_are_no_pictures(self) -> None:
        assert agreement(np.empty((0, 3)), np.empty((0, 3))).n == 0


class TestAnswers:
    @given(case=tied_answers())
    def test_answers_are_among_the_best_and_repeatable(self, case: tuple[np.ndarray, np.ndarray]) -> None:
        logits, _ = case
        given_answers = answers(logits)
        np.testing.assert_array_equal(np.take_along_axis(logits, given_answers[:, None], 1)[:, 0], logits.max(axis=1))
        np.testing.assert_array_equal(given_answers, answers(logits))

    def test_answers_favour_no_class_when_all_tie(self) -> None:
        counts = np.bincount(answers(np.zeros((4000, 4))), minlength=4)
        assert counts.min() > 900

    def test_confusion_counts_right_classes_in_rows(self) -> None:
        logits = np.eye(3)[[0, 1, 1, 2]]
        np.testing.assert_array_equal(
            confusion(logits, np.array([0, 1, 2, 2]), 3), np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1]])
        )

    def test_confusion_keeps_classes_that_do_not_occur(self) -> None:
        assert confusion(np.eye(4)[:1], np.array([0]), 4).shape == (4, 4)
        assert confusion(np.empty((0, 4)), np.empty(0, np.int64), 4).sum() == 0

    def test_confusion_refuses_another_number_of_classes(self) -> None:
        with pytest.raises(DataError, match="3 classes, expected 4"):
            confusion(np.eye(3), np.arange(3), 4)
