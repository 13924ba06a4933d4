from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgekit.data.drawing import draw_order


@given(count=st.integers(0, 2000), seed=st.integers(0, 2**32))
def test_draw_order_is_a_permutation(count: int, seed: int) -> None:
    assert np.array_equal(np.sort(draw_order(count, seed=seed)), np.arange(count))


def test_draw_order_stays_as_it_was_first_published() -> None:
    assert draw_order(10, seed=0).tolist() == [2, 4, 6, 8, 5, 1, 7, 0, 9, 3]


@given(seed=st.integers(0, 2**32))
def test_draw_order_differs_between_seeds(seed: int) -> None:
    assert draw_order(100, seed=seed).tolist() != draw_order(100, seed=seed + 1).tolist()


def test_draw_order_spreads_the_first_draws_over_the_range() -> None:
    tenths = np.bincount(draw_order(10_000, seed=3)[:1000] // 1000, minlength=10)
    assert tenths.min() > 60
    assert tenths.max() < 140
