from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import DataError
from edgekit.evaluate.corruption_error import (
    corruption_error,
    mean_known,
    paired_difference,
    relative_corruption_error,
)

SHARES = st.lists(st.floats(0, 1), min_size=5, max_size=5)


def test_mean_corruption_error_of_a_case_done_by_hand() -> None:
    # fog: 0.1 + 0.2 + 0.3 + 0.4 + 0.5 = 1.5 against 0.1 + 0.1 + 0.2 + 0.3 + 0.3 = 1.0: 150
    # snow: 0.2 five times = 1.0 against 0.4 five times = 2.0: 50
    fog = corruption_error([0.1, 0.2, 0.3, 0.4, 0.5], [0.1, 0.1, 0.2, 0.3, 0.3])
    snow = corruption_error([0.2] * 5, [0.4] * 5)

    assert fog == pytest.approx(150)
    assert snow == pytest.approx(50)
    assert mean_known([fog, snow]) == pytest.approx(100)


def test_relative_error_of_a_case_done_by_hand() -> None:
    # lost by the model: (0.3 - 0.1) * 5 = 1.0; by the reference: (0.45 - 0.05) * 5 = 2.0
    assert relative_corruption_error([0.3] * 5, 0.1, [0.45] * 5, 0.05) == pytest.approx(50)


@given(errors=SHARES, plain=st.floats(0, 1))
def test_reference_has_error_100_against_itself(errors: list[float], plain: float) -> None:
    found = corruption_error(errors, errors)
    relative = relative_corruption_error(errors, plain, errors, plain)

    assert found is None if sum(errors) == 0 else found == pytest.approx(100)
    assert relative is None or relative == pytest.approx(100)


def test_reference_without_mistakes_has_no_error_to_divide_by() -> None:
    assert corruption_error([0.1] * 5, [0.0] * 5) is None
    assert relative_corruption_error([0.3] * 5, 0.1, [0.05] * 5, 0.05) is None
    assert mean_known([None, None]) is None


def test_rest_of_rounding_is_no_loss_of_the_reference() -> None:
    plain = 1 - 54 / 60  # 0.09999999999999998
    errors = [plain + 1 / 60, plain - 1 / 60, plain, plain, 6 / 60]  # adds up to nothing lost, but for 3e-17

    assert sum(error - plain for error in errors) > 0
    assert relative_corruption_error([0.11] * 5, plain, errors, plain) is None


def test_difference_has_pictures_as_units() -> None:
    rng = np.random.default_rng(0)
    first = (rng.integers(0, 2, 400) * 0.8).astype(np.float64)
    second = np.clip(first + rng.normal(0.02, 0.1, 400), 0, 1).astype(np.float64)

    mean, (low, high) = paired_difference(first, second)

    assert mean == pytest.approx(float((second - first).mean()))
    assert high - low == pytest.approx(2 * 1.959964 * (second - first).std(ddof=1) / 20)
    assert paired_difference(first, first) == (0.0, (0.0, 0.0))


def test_one_picture_tells_nothing_apart() -> None:
    assert paired_difference(np.array([0.25]), np.array([0.75])) == (0.5, (-0.5, 1.0))


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_scores_that_do_not_pair_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(DataError, match="cannot be compared"):
        paired_difference(np.zeros(shapes[0]), np.zeros(shapes[1]))
