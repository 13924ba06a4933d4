from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.errors import DataError
from edgekit.evaluate.balance import measure_balance


def labels_of(*counts: int) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


NAMES = ("ant", "bee", "cat")


class TestBalance:
    def test_rare_class_is_noticed(self) -> None:
        found = measure_balance(labels_of(900, 80, 20), NAMES)
        assert found.is_imbalanced
        assert (found.largest, found.smallest, found.ratio) == ("ant", "cat", 45.0)
        assert found.majority_share == pytest.approx(0.9)

    def test_chance_is_no_imbalance(self) -> None:
        assert not measure_balance(labels_of(12, 10, 7), NAMES).is_imbalanced  # 1.7 times, of 29 pictures

    def test_small_difference_is_no_imbalance_however_sure(self) -> None:
        found = measure_balance(labels_of(130_000, 100_000, 110_000), NAMES)
        assert found.p_value < 1e-6
        assert not found.is_imbalanced

    def test_missing_class_is_named_and_not_the_smallest(self) -> None:
        found = measure_balance(labels_of(50, 0, 50), NAMES)
        assert found.missing == ("bee",)
        assert (found.ratio, found.is_imbalanced) == (1.0, False)

    def test_one_class_alone_is_not_called_imbalanced(self) -> None:
        found = measure_balance(labels_of(0, 0, 9), NAMES)
        assert (found.majority_share, found.ratio, found.is_imbalanced) == (1.0, 1.0, False)
        assert found.missing == ("ant", "bee")

    @pytest.mark.parametrize(("labels", "message"), [([], "no picture"), ([3], "expected 0 to 2")])
    def test_labels_that_say_nothing_are_refused(self, labels: list[int], message: str) -> None:
        with pytest.raises(DataError, match=message):
            measure_balance(np.array(labels, np.int64), NAMES)
