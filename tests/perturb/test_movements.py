from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import DataError, UsageError
from edgekit.perturb.movements import MOVEMENTS, Movement, rescale, rotate, translate

IDENTITY = {"translation": 0.0, "rotation": 0.0, "scale": 1.0}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("movement", MOVEMENTS, ids=lambda movement: movement.name)
@pytest.mark.parametrize("shape", [(3, 28, 28, 1), (2, 9, 14, 3), (1, 1, 1, 3)])
def test_amount_that_changes_nothing_is_in_the_sweep(movement: Movement, shape: tuple[int, ...]) -> None:
    amount = IDENTITY[movement.name]
    pictures = noise(*shape)

    assert amount in movement.amounts
    assert list(movement.amounts) == sorted(movement.amounts)
    assert (movement.move(pictures, amount, np.random.default_rng(0)) == pictures).all()


@pytest.mark.parametrize("movement", MOVEMENTS, ids=lambda movement: movement.name)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_type_stay(movement: Movement, channels: int) -> None:
    pictures = noise(4, 28, 20, channels)
    for amount in movement.amounts:
        moved = movement.move(pictures, amount, np.random.default_rng(0))
        again = movement.move(pictures, amount, np.random.default_rng(0))
        assert moved.dtype == np.uint8
        assert moved.shape == pictures.shape
        assert (moved == again).all()
        assert (moved != pictures).any() == (amount != IDENTITY[movement.name])


@given(share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_translation_moves_whole_pixels_of_the_picture(share: float, seed: int) -> None:
    pictures = noise(2, 10, 10, 1)
    moved = translate(pictures, share, np.random.default_rng(seed))

    by = round(10 * share)
    for before, after in zip(pictures[..., 0], moved[..., 0], strict=True):
        shifts = [(down * by, right * by) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]
        padded = np.pad(before, 10, mode="edge")
        options = [padded[10 - down : 20 - down, 10 - right : 20 - right] for down, right in shifts]
        assert any((option == after).all() for option in options)


def test_quarter_turn_is_exact() -> None:
    pictures = noise(1, 15, 15, 3)

    assert (rotate(pictures, 90, np.random.default_rng(0))[0] == np.rot90(pictures[0])).all()


def test_doubling_leaves_the_middle() -> None:
    pictures = np.zeros((1, 21, 21, 1), np.uint8)
    pictures[:, 8:13, 8:13] = 255

    grown, shrunk = (rescale(pictures, factor, np.random.default_rng(0)) for factor in (2.0, 0.5))

    assert (grown > 127).sum() > 3 * 25
    assert 0 < (shrunk > 127).sum() < 25 / 2


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_translation_outside_the_picture_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="expected 0 to 1"):
        translate(noise(1, 8, 8, 1), share, np.random.default_rng(0))


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan")])
def test_scale_that_is_no_factor_is_refused(factor: float) -> None:
    with pytest.raises(UsageError, match="expected a positive factor"):
        rescale(noise(1, 8, 8, 1), factor, np.random.default_rng(0))


def test_rotation_by_infinity_is_refused() -> None:
    with pytest.raises(UsageError, match="rotation by inf"):
        rotate(noise(1, 8, 8, 1), float("inf"), np.random.default_rng(0))


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(DataError, match="expected uint8"):
        rotate(np.zeros((8, 8, 3), np.uint8), 10, np.random.default_rng(0))
