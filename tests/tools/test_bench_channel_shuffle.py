from __future__ import annotations

import pytest

from bench_channel_shuffle import ALONE, JOINED, compare


@pytest.mark.parametrize("is_int8", [False, True])
def test_every_form_shuffles_alike_and_is_reported(is_int8: bool) -> None:
    # `compare` raises when a form gives other values than numpy.
    figures = compare((3, 2, 6, 3), is_int8=is_int8, rounds=1, runs=1)

    prefix = f"{'int8' if is_int8 else 'float'}_3x2x6_g3"
    for form in (*ALONE, *JOINED):
        assert figures[f"{prefix}_{form}_cpu_us"] > 0
        assert figures[f"{prefix}_{form}_partitions"] >= 0


@pytest.mark.parametrize("is_int8", [False, True])
def test_chosen_forms_are_one_partition(is_int8: bool) -> None:
    figures = compare((3, 2, 6, 3), is_int8=is_int8, rounds=1, runs=1)

    chosen = {name: value for name, value in figures.items() if "transpose_4d_part" in name or "rows_part" in name}
    assert set(chosen.values()) == {1}
