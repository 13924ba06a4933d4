from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.errors import DataError
from edgekit.data.memory import MemorySource


def make_source(**changes: object) -> MemorySource:
    fields: dict[str, object] = {
        "name": "toy",
        "split": "train",
        "class_names": ("a", "b"),
        "pictures": np.arange(4 * 2 * 2, dtype=np.uint8).reshape(4, 2, 2, 1),
        "labels": np.array([0, 1, 1, 0], dtype=np.int64),
    }
    return MemorySource(**{**fields, **changes})  # type: ignore[arg-type]


def test_read_returns_the_picture() -> None:
    assert make_source().read(2)[:, :, 0].tolist() == [[8, 9], [10, 11]]


def test_take_keeps_order_and_labels() -> None:
    part = make_source().take(np.array([2, 0]), split="calibration")
    assert (part.split, len(part)) == ("calibration", 2)
    assert part.pictures[:, 0, 0, 0].tolist() == [8, 0]
    assert part.labels is not None
    assert part.labels.tolist() == [1, 0]


def test_take_keeps_unlabelled_pictures_unlabelled() -> None:
    assert make_source(labels=None, class_names=()).take(np.array([1]), split="test").labels is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pictures": np.zeros((4, 2, 2, 1), np.float32)}, "expected uint8 pictures"),
        ({"pictures": np.zeros((4, 2, 2), np.uint8)}, "expected uint8 pictures"),
        ({"pictures": np.zeros((4, 2, 2, 4), np.uint8)}, "expected uint8 pictures"),
        ({"labels": np.zeros(3, np.int64)}, "expected 4 int64 labels"),
        ({"labels": np.zeros(4, np.uint8)}, "expected 4 int64 labels"),
        ({"labels": np.array([0, 1, 2, 0])}, "labels run from 0 to 2, expected 0 to 1"),
        ({"labels": np.array([0, -1, 1, 0])}, "labels run from -1 to 1"),
    ],
)
def test_source_is_refused_when_arrays_do_not_fit(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_source(**changes)
