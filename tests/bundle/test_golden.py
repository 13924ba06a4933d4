"""Right and wrong answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.bundle.golden import GoldenSet, check_answers
from edgekit.core.errors import BarNotMetError

GOLDEN = GoldenSet(
    pictures=np.zeros((2, 4, 4, 1), np.uint8),
    logits=np.array([[0, 5, 1], [7, 2, 3]], np.float32),
    labels=("ant", "bee", "cat"),
    tolerance=0.5,
)


@given(st.lists(st.floats(-0.5, 0.5, width=32), min_size=6, max_size=6))
def test_answers_within_the_tolerance_are_right(errors: list[float]) -> None:
    check_answers(GOLDEN, GOLDEN.logits + np.reshape(np.array(errors, np.float32), (2, 3)))


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([[0, 5, 6], [7, 2, 3]], r"kitchen: golden picture 1 of 2: expected 'bee' \(5\), got 'cat' \(6\)"),
        ([[0, 5, 1], [7, 2, 3.6]], r"golden picture 2 of 2: 'ant' \(7\) is the right class, .* off by 0.6"),
        ([[0, 5, 1], [np.nan, 2, 3]], "golden picture 2 of 2: expected 'ant' .*, got NaN or infinity"),
        ([[0, np.inf, 1], [7, 2, 3]], "golden picture 1 of 2: expected 'bee' .*, got NaN or infinity"),
        ([[0, 5], [7, 2]], "golden picture 1 of 2 has 2 answers, expected 3"),
    ],
)
def test_wrong_answer_names_picture_expected_and_got(answers: list[list[float]], message: str) -> None:
    with pytest.raises(BarNotMetError, match=message):
        check_answers(GOLDEN, np.array(answers, np.float32), name="kitchen")


def test_answers_may_be_checked_one_by_one() -> None:
    check_answers(GOLDEN, GOLDEN.logits[1:], first=1)
    with pytest.raises(BarNotMetError, match="picture 2"):
        check_answers(GOLDEN, GOLDEN.logits[:1], first=1)
