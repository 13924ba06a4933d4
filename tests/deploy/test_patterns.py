"""Generated pictures are smooth, differ, and are the same everywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.deploy.patterns import draw_pattern


def test_pattern_is_the_same_on_every_machine() -> None:
    picture = draw_pattern((32, 48), 3, seed=0)

    assert (
        hashlib.sha256(picture.tobytes()).hexdigest()
        == "ad91679c1cd8bf4de6fe36d58773e27ae2a7979af27aad0b45ab5f280aef3e3b"
    )


@given(
    height=st.integers(1, 60), width=st.integers(1, 60), channels=st.sampled_from([1, 3]), seed=st.integers(0, 2**31)
)
def test_pattern_has_the_size_asked_for(height: int, width: int, channels: int, seed: int) -> None:
    picture = draw_pattern((height, width), channels, seed=seed)

    assert picture.shape == (height, width, channels)
    assert picture.dtype == np.uint8


def test_neighbouring_pixels_are_alike() -> None:
    picture = draw_pattern((224, 224), 3, seed=5).astype(int)

    assert np.abs(np.diff(picture, axis=0)).max() <= 5
    assert np.abs(np.diff(picture, axis=1)).max() <= 5
    assert np.ptp(picture) > 100


@pytest.mark.parametrize("channels", [1, 3])
def test_other_seeds_make_other_pictures(channels: int) -> None:
    pictures = {draw_pattern((16, 16), channels, seed=seed).tobytes() for seed in range(64)}

    assert len(pictures) == 64
