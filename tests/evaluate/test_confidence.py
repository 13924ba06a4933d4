from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import DataError
from edgekit.evaluate.calibration import measure_calibration
from edgekit.evaluate.confidence import choose_threshold, expected_error, fit_temperature
from edgekit.evaluate.metrics import top_k_credit
from edgekit.evaluate.probabilities import to_probabilities


def draw(temperature: float, num: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels for which softmax(logits / temperature) is the truth."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (num, 5))
    shares = to_probabilities(logits).cumsum(axis=1)
    labels = (rng.random((num, 1)) > shares).sum(axis=1).clip(0, 4)
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_temperature_that_logits_were_drawn_with_is_found(temperature: float) -> None:
    logits, labels = draw(temperature)

    assert fit_temperature(logits, labels, np.ones(len(labels))) == pytest.approx(temperature, rel=0.1)


def test_pictures_without_weight_do_not_count() -> None:
    logits, labels = draw(2.0)
    wrong = (labels + 1) % 5
    weights = np.concatenate([np.ones(len(labels)), np.zeros(len(labels))])

    alone = fit_temperature(logits, labels, np.ones(len(labels)))
    both = fit_temperature(np.concatenate([logits, logits]), np.concatenate([labels, wrong]), weights)

    assert both == pytest.approx(alone, rel=1e-3)


def test_answers_that_are_all_right_want_no_doubt_and_huge_logits_are_taken() -> None:
    logits = 1e4 * np.eye(3)

    assert fit_temperature(logits, np.arange(3), np.ones(3)) <= 20
    assert fit_temperature(np.eye(3), np.arange(3), np.ones(3)) == pytest.approx(0.05, rel=0.05)


def test_no_weight_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="not all 0"):
        fit_temperature(np.eye(3), np.arange(3), np.zeros(3))


@given(seed=st.integers(0, 500), num=st.integers(1, 60))
def test_error_without_weights_is_that_of_calibration(seed: int, num: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 2, (num, 4)), rng.integers(0, 4, num)
    probabilities, credit = to_probabilities(logits), top_k_credit(logits, labels, 1)

    expected = measure_calibration(probabilities, labels, credit).expected_error
    assert expected_error(probabilities.max(axis=1), credit, np.full(num, 3.0)) == pytest.approx(expected, abs=1e-12)


class TestThreshold:
    @given(seed=st.integers(0, 500), num=st.integers(1, 80), target=st.floats(0, 1))
    def test_accepted_answers_reach_the_target_and_no_lower_threshold_does(
        self, seed: int, num: int, target: float
    ) -> None:
        rng = np.random.default_rng(seed)
        confidence = rng.integers(1, 12, num) / 12  # ties, as a quantized file has them
        credit, weights = rng.integers(0, 2, num).astype(float), rng.uniform(0.1, 2, num)

        found = choose_threshold(confidence, credit, weights, target)

        def reaches(threshold: float) -> bool:
            kept = confidence >= threshold
            enough = weights[kept].sum() >= 0.05 * weights.sum()
            return bool(enough and weights[kept] @ credit[kept] >= target * weights[kept].sum() - 1e-9)

        good = [threshold for threshold in {0.0, *confidence.tolist()} if reaches(threshold)]
        assert found == (min(good) if good else None)

    def test_nothing_need_be_refused_when_all_is_right(self) -> None:
        assert choose_threshold(np.array([0.5, 0.9]), np.ones(2), np.ones(2), 0.95) == 0.0

    def test_no_threshold_helps_against_sure_mistakes(self) -> None:
        assert choose_threshold(np.array([1.0, 0.9]), np.array([0.0, 1.0]), np.ones(2), 0.95) is None
