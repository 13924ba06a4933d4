from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.report.confusion import MAX_MATRIX_CLASSES, summarize_confusion

NAMES = ("cat", "dog", "eel")
MATRIX = ((8, 2, 0), (5, 5, 0), (0, 0, 0))


def test_rates_follow_rows_and_columns() -> None:
    cat, dog, eel = summarize_confusion(MATRIX, NAMES).classes
    assert (cat.recall, cat.precision) == (pytest.approx(8 / 10), pytest.approx(8 / 13))
    assert (dog.recall, dog.precision) == (pytest.approx(5 / 10), pytest.approx(5 / 7))
    assert (eel.recall, eel.precision) == (None, None)


def test_pairs_come_most_confused_first() -> None:
    pairs = summarize_confusion(MATRIX, NAMES).pairs
    assert [(pair.label, pair.answer, pair.count, pair.share) for pair in pairs] == [
        ("dog", "cat", 5, 0.5),
        ("cat", "dog", 2, 0.2),
    ]


def test_weakest_leaves_out_perfect_and_unseen_classes() -> None:
    summary = summarize_confusion(((3, 0, 0), (1, 1, 0), (0, 0, 0)), NAMES)
    assert [rates.name for rates in summary.weakest] == ["dog"]


def test_classes_are_numbered_when_names_run_out() -> None:
    assert [rates.name for rates in summarize_confusion(MATRIX, ("cat",)).classes] == ["cat", "class 1", "class 2"]


def test_cells_give_way_to_lists_above_the_limit() -> None:
    fits = np.eye(MAX_MATRIX_CLASSES, dtype=int).tolist()
    too_many = np.eye(MAX_MATRIX_CLASSES + 1, dtype=int).tolist()
    assert len(summarize_confusion(fits, ()).cells) == MAX_MATRIX_CLASSES
    assert summarize_confusion(too_many, ()).cells == ()


@given(
    st.integers(1, 12).flatmap(
        lambda size: hnp.arrays(np.int64, (size, size), elements=st.integers(0, 50)).map(np.ndarray.tolist)
    )
)
def test_summary_keeps_every_count(matrix: list[list[int]]) -> None:
    summary = summarize_confusion(matrix, ())
    assert [[cell.count for cell in row] for row in summary.cells] == matrix
    assert sum(rates.num_pictures for rates in summary.classes) == sum(map(sum, matrix))
    assert sum(rates.num_answers for rates in summary.classes) == sum(map(sum, matrix))
    assert all(0 <= cell.share <= 1 for row in summary.cells for cell in row)
    assert [pair.count for pair in summary.pairs] == sorted((pair.count for pair in summary.pairs), reverse=True)
