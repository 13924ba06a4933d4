"""Every metric against scikit-learn, on random and degenerate answers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from edgekit.core.errors import DataError, UsageError
from edgekit.core.evaluation import ModelScores
from edgekit.core.measurement import wilson_interval
from edgekit.evaluate.classwise import balanced_interval
from edgekit.evaluate.scoring import score_model

EXACT = 1e-9


def names(num_classes: int) -> list[str]:
    return [f"class {index}" for index in range(num_classes)]


def score(logits: np.ndarray, labels: np.ndarray, **options: object) -> ModelScores:
    return score_model(logits, labels, names(logits.shape[1]), **options)  # pyright: ignore[reportArgumentType]


def nan(value: float | None) -> float:
    return np.nan if value is None else value


@st.composite
def answered(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Logits without ties (in float64), and labels that may leave out classes."""
    num, num_classes = draw(st.integers(1, 40)), draw(st.integers(2, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, draw(st.integers(1, num_classes)), num)
    logits = rng.standard_normal((num, num_classes)) * draw(st.sampled_from([0.1, 1.0, 20.0]))
    logits[np.arange(num), labels] += draw(st.sampled_from([0.0, 1.0, 5.0, -100.0]))
    return logits, labels


class TestAgainstScikitLearn:
    @settings(deadline=None, max_examples=25)
    @given(case=answered())
    def test_class_scores_equal_scikit_learn(self, case: tuple[np.ndarray, np.ndarray]) -> None:
        logits, labels = case
        found, given_answers = score(logits, labels), logits.argmax(axis=1)
        one_class = {"labels": np.arange(logits.shape[1]), "average": None, "zero_division": np.nan}
        rows = found.classes
        for expected, values in (
            (precision_score(labels, given_answers, **one_class), [row.precision for row in rows]),
            (recall_score(labels, given_answers, **one_class), [row.recall for row in rows]),
            (f1_score(labels, given_answers, **one_class), [row.f_score for row in rows]),
        ):
            np.testing.assert_allclose([nan(value) for value in values], expected, atol=EXACT, rtol=0)
        for index, row in enumerate(rows):
            others = labels != index
            if others.any():  # the true negative rate is the recall of "any other class"
                expected = recall_score(others, given_answers != index)
                assert row.specificity == pytest.approx(expected, abs=EXACT)
                assert row.false_positive_rate == pytest.approx(1 - expected, abs=EXACT)
            else:
                assert row.specificity is None
                assert row.false_positive_rate is None

    @settings(deadline=None, max_examples=25)
    @given(case=answered())
    def test_averages_equal_scikit_learn(self, case: tuple[np.ndarray, np.ndarray]) -> None:
        logits, labels = case
        found, given_answers = score(logits, labels), logits.argmax(axis=1)
        present = np.unique(labels)
        macro = {"labels": present, "average": "macro", "zero_division": 0.0}
        means = found.averages
        assert means.precision == pytest.approx(precision_score(labels, given_answers, **macro), abs=EXACT)
        assert means.f_score == pytest.approx(f1_score(labels, given_answers, **macro), abs=EXACT)
        assert means.num_classes == len(present)
        if len(present) > 1 and set(given_answers) <= set(present):  # scikit-learn warns otherwise
            assert means.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, given_answers), abs=EXACT)
        low, high = means.balanced_ci95
        assert 0 <= low <= means.balanced_accuracy <= high <= 1

    @settings(deadline=None, max_examples=25)
    @given(case=answered(), levels=st.sampled_from([None, 3]))
    def test_areas_equal_scikit_learn_also_when_scores_tie(
        self, case: tuple[np.ndarray, np.ndarray], levels: int | None
    ) -> None:
        logits, labels = case
        logits = logits if levels is None else np.round(logits).clip(-1, levels - 2)
        probabilities = softmax(logits, axis=1)
        found = score(logits, labels)
        areas, precisions = [], []
        for index, row in enumerate(found.classes):
            if not 0 < (labels == index).sum() < len(labels):
                assert (row.auc, row.average_precision) == (None, None)
                continue
            areas.append(roc_auc_score(labels == index, probabilities[:, index]))
            assert row.auc == pytest.approx(areas[-1], abs=EXACT)
            expected = average_precision_score(labels == index, probabilities[:, index])
            assert row.average_precision == pytest.approx(expected, abs=EXACT)
            precisions.append(expected)
        mean_precision = pytest.approx(np.mean(precisions), abs=EXACT) if precisions else None
        assert found.averages.average_precision == mean_precision
        assert found.averages.auc == (pytest.approx(np.mean(areas), abs=EXACT) if areas else None)

    def test_macro_area_equals_scikit_learns_one_vs_rest(self) -> None:
        rng = np.random.default_rng(1)
        labels = rng.integers(0, 6, 300)
        logits = rng.standard_normal((300, 6)) + np.eye(6)[labels]
        expected = roc_auc_score(labels, softmax(logits, axis=1), multi_class="ovr", average="macro")
        assert score(logits, labels).averages.auc == pytest.approx(expected, abs=EXACT)

    @settings(deadline=None, max_examples=25)
    @given(case=answered())
    def test_reliability_bins_equal_scikit_learns_calibration_curve(self, case: tuple[np.ndarray, np.ndarray]) -> None:
        logits, labels = case
        probabilities = softmax(logits, axis=1)
        confidence, right = probabilities.max(axis=1), logits.argmax(axis=1) == labels
        shares, means = calibration_curve(right, confidence, n_bins=15, pos_label=True)
        found = score(logits, labels).calibration
        used = [row for row in found.bins if row.num_pictures]
        np.testing.assert_allclose([nan(row.accuracy) for row in used], shares, atol=EXACT)
        np.testing.assert_allclose([nan(row.confidence) for row in used], means, atol=EXACT)
        weights = np.array([row.num_pictures for row in used]) / len(labels)
        assert found.expected_error == pytest.approx((weights * np.abs(shares - means)).sum(), abs=EXACT)
        assert found.largest_error == pytest.approx(np.abs(shares - means).max(), abs=EXACT)
        loss = log_loss(labels, probabilities, labels=np.arange(logits.shape[1]))
        assert found.log_loss == pytest.approx(loss, rel=EXACT, abs=EXACT)
        assert found.mean_confidence == pytest.approx(confidence.mean(), abs=EXACT)

    @settings(deadline=None, max_examples=25)
    @given(case=answered(), data=st.data())
    def test_top_k_equals_scikit_learn(self, case: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
        logits, labels = case
        num_classes = logits.shape[1]
        k = data.draw(st.integers(1, num_classes))
        found = {row.k: row for row in score(logits, labels, top_k=(k,)).top_k}
        ranked = np.argsort(-logits, axis=1)[:, :k]
        num_right = int((ranked == labels[:, np.newaxis]).any(axis=1).sum())
        assert found[k].share == pytest.approx(num_right / len(labels), abs=EXACT)
        if num_classes > 2 and k < num_classes:
            expected = top_k_accuracy_score(labels, logits, k=k, labels=np.arange(num_classes))
            assert found[k].share == pytest.approx(expected, abs=EXACT)
        interval = binomtest(num_right, len(labels)).proportion_ci(method="wilson")
        assert found[k].ci95 == pytest.approx((interval.low, interval.high), abs=1e-6)

    @pytest.mark.parametrize(
        "labels",
        [np.zeros(12, np.int64), np.full(12, 2), np.arange(12) % 2, np.r_[np.zeros(11, np.int64), 1]],
        ids=["one_class", "one_class_the_last", "a_class_without_positives", "a_single_positive"],
    )
    @pytest.mark.parametrize("levels", [1, 2, 4], ids=["all_tie", "most_tie", "some_tie"])
    def test_degenerate_answers_equal_scikit_learn(self, labels: np.ndarray, levels: int) -> None:
        """Ties count in part: what scikit-learn makes of every best answer, weighted by 1 / their number."""
        logits = np.random.default_rng(levels).integers(0, levels, (12, 3)).astype(np.float32)
        best = logits == logits.max(axis=1, keepdims=True)
        pictures, given_answers = np.nonzero(best)
        weighted = {"sample_weight": (1 / best.sum(axis=1))[pictures]}
        repeated = labels[pictures]
        one_class = {"labels": np.arange(3), "average": None, "zero_division": np.nan, **weighted}
        found = score(logits, labels)
        for expected, values in (
            (precision_score(repeated, given_answers, **one_class), [row.precision for row in found.classes]),
            (recall_score(repeated, given_answers, **one_class), [row.recall for row in found.classes]),
            (f1_score(repeated, given_answers, **one_class), [row.f_score for row in found.classes]),
        ):
            np.testing.assert_allclose([nan(value) for value in values], expected, atol=EXACT, rtol=0)
        expected = accuracy_score(repeated, given_answers, **weighted)
        assert found.accuracy.top1 == pytest.approx(expected, abs=EXACT)
        probabilities = softmax(logits.astype(np.float64), axis=1)
        for index, row in enumerate(found.classes):
            if 0 < (labels == index).sum() < len(labels):
                area = roc_auc_score(labels == index, probabilities[:, index])
                assert row.auc == pytest.approx(area, abs=EXACT)
            else:
                assert (row.auc, row.average_precision) == (None, None)


class TestTies:
    @settings(deadline=None, max_examples=25)
    @given(
        logits=npst.arrays(np.float32, (4, 3), elements=st.sampled_from([-1.0, 0.0])),
        labels=npst.arrays(np.int64, 4, elements=st.integers(0, 2)),
    )
    def test_recalls_are_the_mean_over_all_ways_to_break_ties(self, logits: np.ndarray, labels: np.ndarray) -> None:
        found = score(logits, labels)
        choices = [np.flatnonzero(row == row.max()) for row in logits]
        ways = np.array(list(product(*choices)))
        for index, row in enumerate(found.classes):
            chosen = ways[:, labels == index]
            expected = (chosen == index).mean() if chosen.size else None
            assert row.recall == (None if expected is None else pytest.approx(expected, abs=EXACT))
        assert found.num_tied == sum(len(choice) > 1 for choice in choices)
        top1 = (ways == labels).mean()
        assert found.accuracy.top1 == pytest.approx(top1, abs=EXACT)
        weights = [row.num_pictures * nan(row.recall) for row in found.classes if row.num_pictures]
        assert sum(weights) / len(labels) == pytest.approx(top1, abs=EXACT)  # the table adds up to the headline

    def test_all_scores_are_chance_when_all_classes_tie(self) -> None:
        found = score(np.zeros((40, 4)), np.arange(40) % 4)
        assert found.accuracy.top1 == pytest.approx(0.25)
        assert found.averages.balanced_accuracy == pytest.approx(0.25)
        assert found.averages.auc == pytest.approx(0.5)
        assert found.calibration.expected_error == pytest.approx(0.0)  # a quarter sure, a quarter right
        assert found.num_tied == 40
        assert sum(map(sum, found.confusion)) == 40  # whole pictures all the same


class TestDegenerate:
    def test_class_without_pictures_has_no_recall_but_a_false_positive_rate(self) -> None:
        logits = np.array([[3.0, 0.0, 1.0], [0.0, 3.0, 1.0], [0.0, 1.0, 3.0], [2.0, 1.0, 0.0]])
        found = score(logits, np.array([0, 1, 1, 0]))
        absent = found.classes[2]
        assert (absent.num_pictures, absent.recall, absent.recall_ci95, absent.auc) == (0, None, None, None)
        assert absent.precision == 0.0
        assert absent.false_positive_rate == pytest.approx(1 / 4)
        assert found.averages.balanced_accuracy == pytest.approx(0.75)  # of the two classes that are there
        assert found.averages.num_classes == 2

    def test_one_class_alone_has_accuracy_and_no_areas(self) -> None:
        logits = np.array([[3.0, 0.0], [0.0, 3.0], [3.0, 0.0]])
        found = score(logits, np.zeros(3, np.int64))
        assert found.accuracy.top1 == found.averages.balanced_accuracy == pytest.approx(2 / 3)
        assert (found.averages.auc, found.averages.average_precision, found.roc) == (None, None, ())
        assert found.classes[0].specificity is None
        assert found.classes[1].false_positive_rate == pytest.approx(1 / 3)

    def test_model_of_a_single_output_is_always_right_and_sure(self) -> None:
        found = score(np.array([[1.0], [-2.0]]), np.zeros(2, np.int64))
        assert found.accuracy.top1 == 1.0
        assert (found.calibration.expected_error, found.calibration.log_loss) == (0.0, 0.0)

    def test_all_wrong_is_zero_everywhere(self) -> None:
        labels = np.arange(30) % 3
        found = score(10.0 * np.eye(3)[(labels + 1) % 3], labels)
        means = found.averages
        assert (found.accuracy.top1, means.balanced_accuracy, means.precision, means.f_score) == (0.0, 0.0, 0.0, 0.0)
        assert means.balanced_ci95[1] > 0.05  # 30 wrong answers do not prove that it never is right
        assert found.calibration.expected_error == pytest.approx(found.calibration.mean_confidence)

    def test_never_answered_class_has_no_precision_and_counts_zero_in_the_mean(self) -> None:
        found = score(np.array([[2.0, 1.0], [3.0, 0.0]]), np.array([0, 1]))
        assert found.classes[1].precision is None
        assert found.classes[1].f_score == 0.0
        assert found.averages.precision == pytest.approx(0.25)

    def test_a_thousand_classes_keep_their_scores_and_few_curves(self) -> None:
        rng = np.random.default_rng(0)
        labels = np.arange(2000) % 1000
        logits = rng.standard_normal((2000, 1000)).astype(np.float32)
        logits[np.arange(2000), labels] += 2
        found = score(logits, labels)
        assert len(found.classes) == 1000
        assert [curve.is_macro for curve in found.roc] == [True] + [False] * 5
        areas = sorted(nan(row.auc) for row in found.classes)
        assert [curve.auc for curve in found.roc[1:]] == areas[:5]
        for curve in found.roc:
            assert len(curve.false_positive_rate) == len(curve.true_positive_rate) <= 201
            assert (curve.false_positive_rate[0], curve.true_positive_rate[0]) == (0.0, 0.0)
            assert (curve.false_positive_rate[-1], curve.true_positive_rate[-1]) == (1.0, 1.0)
            drawn = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
            assert drawn == pytest.approx(curve.auc, abs=0.005)  # thinning does not bend it


class TestBadInput:
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_answers_that_are_not_finite_are_refused(self, bad: float) -> None:
        with pytest.raises(DataError, match="NaN or infinite, the first at index 1"):
            score(np.array([[0.0, 1.0], [bad, 0.0]]), np.array([0, 1]))

    @pytest.mark.parametrize("labels", [[0, 2], [-1, 0]])
    def test_label_out_of_range_is_refused(self, labels: list[int]) -> None:
        with pytest.raises(DataError, match="expected 0 to 1"):
            score(np.zeros((2, 2)), np.array(labels))

    @pytest.mark.parametrize("k", [0, 4])
    def test_k_beyond_the_classes_is_refused(self, k: int) -> None:
        with pytest.raises(UsageError, match=f"top-{k} of 3 classes"):
            score(np.zeros((1, 3)), np.array([0]), top_k=(k,))

    def test_k_of_all_classes_is_always_right(self) -> None:
        assert score(np.zeros((1, 3)), np.array([0]), top_k=(3,)).top_k[-1].share == 1.0

    def test_no_picture_is_refused(self) -> None:
        with pytest.raises(DataError, match="no picture"):
            score(np.empty((0, 3)), np.empty(0, np.int64))

    @pytest.mark.parametrize("values", [[[4.0, -3.0]], [[0.9, 0.9]], [[1.5, -0.5]]])
    def test_logits_are_refused_where_probabilities_should_be(self, values: list[list[float]]) -> None:
        with pytest.raises(DataError, match="expected probabilities"):
            score(np.array(values), np.array([0]), are_probabilities=True)

    def test_probabilities_are_not_softmaxed_again(self) -> None:
        found = score(np.array([[0.8, 0.2], [0.25, 0.75]]), np.array([0, 1]), are_probabilities=True)
        assert found.calibration.mean_confidence == pytest.approx(0.775)


def test_balanced_interval_is_wilsons_when_classes_have_as_many_pictures() -> None:
    assert balanced_interval([(0.9, 50), (0.7, 50)]) == pytest.approx(wilson_interval(80, 100))


def test_balanced_interval_is_as_wide_as_the_rare_classes_make_it() -> None:
    low, high = balanced_interval([(0.9, 100_000), (0.5, 16)])
    spread = np.sqrt(0.25 / 16) / 2  # what is left when the large class is known exactly
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.1)
