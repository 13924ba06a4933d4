from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.agent.smoothing import Smoother, SmoothingSettings
from edgekit.core.errors import UsageError
from edgekit.core.frame import UNKNOWN_LABEL

LABELS = ("cat", "dog", "owl")
CAT, DOG, UNSURE = (np.array(values) for values in ([0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]))
SECOND = 1_000_000_000


def test_smoother_passes_frames_through_without_smoothing() -> None:
    smoother = Smoother(SmoothingSettings(threshold=0.5), LABELS)
    verdicts = [smoother.add(one, SECOND) for one in (CAT, DOG, CAT)]
    assert [verdict.label for verdict in verdicts] == ["cat", "dog", "cat"]
    assert verdicts[1].index == 1
    assert verdicts[1].confidence == 0.8


def test_smoother_says_unknown_below_the_threshold_and_still_tells_the_confidence() -> None:
    verdict = Smoother(SmoothingSettings(threshold=0.5), LABELS).add(UNSURE, 0)
    assert (verdict.label, verdict.index, verdict.confidence) == (UNKNOWN_LABEL, None, 0.4)


def test_smoother_answers_at_the_threshold_itself() -> None:
    assert Smoother(SmoothingSettings(threshold=0.8), LABELS).add(CAT, 0).label == "cat"


def test_votes_are_needed_before_a_class_is_said() -> None:
    smoother = Smoother(SmoothingSettings(votes=2, window=3), LABELS)
    said = [smoother.add(one, 0).label for one in (CAT, CAT, DOG, CAT, DOG, DOG)]
    assert said == [UNKNOWN_LABEL, "cat", UNKNOWN_LABEL, "cat", "dog", "dog"]


def test_frames_below_the_threshold_use_up_the_window() -> None:
    smoother = Smoother(SmoothingSettings(votes=2, window=3), LABELS)
    said = [smoother.add(one, 0).label for one in (CAT, UNSURE, UNSURE, CAT, CAT)]
    assert said == [UNKNOWN_LABEL] * 4 + ["cat"]


def test_half_life_weighs_frames_by_time_and_not_by_number() -> None:
    slow, fast = (Smoother(SmoothingSettings(half_life_s=1.0), LABELS) for _ in range(2))
    slow.add(CAT, 0)
    after_one = slow.add(DOG, SECOND)
    fast.add(CAT, 0)
    for tenth in range(1, 11):
        after_ten = fast.add(DOG, tenth * SECOND // 10)
    assert after_one.confidence == pytest.approx(0.45)
    assert after_ten.confidence == pytest.approx(0.45)


def test_time_that_runs_backwards_counts_as_no_time() -> None:
    smoother = Smoother(SmoothingSettings(half_life_s=1.0), LABELS)
    smoother.add(CAT, 5 * SECOND)
    assert smoother.add(DOG, 0).label == "cat"
    # and the clock of the smoothing did not run back either: one second is one half-life
    assert smoother.add(DOG, 6 * SECOND).confidence == pytest.approx(0.45)


def test_reset_forgets_votes_and_mean() -> None:
    smoother = Smoother(SmoothingSettings(half_life_s=10.0, votes=2, window=2), LABELS)
    for _ in range(3):
        smoother.add(CAT, SECOND)
    smoother.reset()
    first, second = smoother.add(DOG, 2 * SECOND), smoother.add(DOG, 2 * SECOND)
    assert (first.label, second.label) == (UNKNOWN_LABEL, "dog")


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (SmoothingSettings(threshold=1.5), "threshold"),
        (SmoothingSettings(half_life_s=-1), "half_life_s"),
        (SmoothingSettings(half_life_s=float("nan")), "half_life_s"),
        (SmoothingSettings(votes=3, window=2), "3 votes of 2"),
        (SmoothingSettings(votes=0), "0 votes"),
        (SmoothingSettings(window=10**9), "1000"),
    ],
)
def test_settings_out_of_range_are_refused(settings: SmoothingSettings, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Smoother(settings, LABELS)


@given(
    st.lists(st.tuples(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.integers(0, 10**11)), min_size=1),
    st.floats(0.01, 100),
)
def test_smoothed_confidence_stays_a_probability(frames: list[tuple[list[float], int]], half_life_s: float) -> None:
    smoother = Smoother(SmoothingSettings(half_life_s=half_life_s, threshold=0.0), LABELS)
    for values, captured_ns in frames:
        verdict = smoother.add(np.array(values) / sum(values), captured_ns)
        assert 1 / 3 - 1e-9 <= verdict.confidence <= 1 + 1e-9
        assert verdict.label in LABELS
