"""What each corruption does, where it can be said exactly."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.perturb.corruption import CORRUPTIONS, corrupt
from edgekit.perturb.corruptions.frost import make_ice
from edgekit.perturb.filters import disk_kernel, motion_kernel, plasma, zoom


def change(name: str, pictures: np.ndarray, severity: int, seed: int = 0) -> np.ndarray:
    return corrupt(CORRUPTIONS.load(name), pictures, severity, np.random.default_rng(seed))


def test_gaussian_noise_has_the_deviation_of_the_paper() -> None:
    noise = change("gaussian_noise", np.full((20, 32, 32, 3), 128, np.uint8), 5).astype(float) - 128

    assert noise.std() == pytest.approx(0.10 * 255, rel=0.03)
    assert abs(noise.mean()) < 0.5


def test_shot_noise_keeps_the_mean_and_black() -> None:
    shots = change("shot_noise", np.full((20, 32, 32, 1), 100, np.uint8), 5)

    assert shots.mean() == pytest.approx(100, abs=1)
    assert shots.std() == pytest.approx(255 * np.sqrt(100 / 255 / 50), rel=0.05)
    assert change("shot_noise", np.zeros((1, 32, 32, 1), np.uint8), 5).max() == 0


def test_impulse_noise_turns_its_share_black_or_white() -> None:
    speckled = change("impulse_noise", np.full((50, 32, 32, 3), 128, np.uint8), 5)

    assert (speckled == 0).mean() == pytest.approx(0.035, abs=0.004)
    assert (speckled == 255).mean() == pytest.approx(0.035, abs=0.004)


def test_brightness_keeps_the_proportions_of_a_color() -> None:
    picture = np.full((1, 8, 8, 3), (100, 50, 25), np.uint8)

    assert change("brightness", picture, 3)[0, 0, 0].tolist() == [138, 69, 35]  # 100 + 0.15 * 255, and in proportion
    assert change("brightness", np.zeros((1, 8, 8, 3), np.uint8), 3)[0, 0, 0].tolist() == [38, 38, 38]


def test_contrast_scales_the_distance_to_the_mean() -> None:
    picture = np.zeros((1, 8, 8, 1), np.uint8)
    picture[:, :4] = 200

    assert set(change("contrast", picture, 2).flat) == {50, 150}


def test_glass_moves_pixels_and_makes_none() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (2, 65, 65, 3), dtype=np.uint8)
    glass = CORRUPTIONS.load("glass_blur").change

    moved = glass(picture.astype(np.float32), (0.0, 1, 2), rng)

    assert (moved != picture).any()
    for before, after in zip(picture, moved, strict=True):
        assert sorted(map(tuple, before.reshape(-1, 3).tolist())) == sorted(map(tuple, after.reshape(-1, 3).tolist()))


def test_pixelate_makes_squares_of_the_mean() -> None:
    picture = np.zeros((1, 224, 224, 1), np.uint8)
    picture[:, ::2, ::2] = 200

    assert set(change("pixelate", picture, 2).flat) == {50}  # half the pixels: means of 2 x 2


def test_jpeg_is_that_of_the_library() -> None:
    picture = np.full((1, 32, 32, 3), (200, 30, 60), np.uint8)

    assert np.abs(change("jpeg_compression", picture, 1).astype(int) - picture).max() <= 3


def test_kernels_sum_to_one() -> None:
    for kernel in (disk_kernel(0.3, 0.4), disk_kernel(10, 0.5), motion_kernel(6, 1, 30), motion_kernel(20, 15, -100)):
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        assert kernel.min() >= 0


def test_motion_trails_along_its_line_to_one_side() -> None:
    kernel = motion_kernel(3, 2, 0)
    centre = kernel.shape[0] // 2

    assert np.count_nonzero(kernel.sum(axis=1)) == 1
    assert (kernel[centre, :centre] == 0).all()
    assert (np.diff(kernel[centre, centre : centre + 7]) < 0).all()


def test_clouds_fill_their_range_and_are_smoother_the_more_detail_decays() -> None:
    rough, smooth = (plasma(8, (33, 40), decay, np.random.default_rng(0)) for decay in (1.5, 3.0))

    for clouds in (rough, smooth):
        assert clouds.shape == (8, 33, 40)
        assert 0 <= clouds.min() <= clouds.max() <= 1
    assert np.abs(np.diff(smooth, axis=2)).mean() < 0.5 * np.abs(np.diff(rough, axis=2)).mean()


def test_ice_differs_from_picture_to_picture() -> None:
    ice = make_ice(2, (32, 32), np.random.default_rng(0))

    assert np.abs(ice[0] - ice[1]).mean() > 0.02
    assert 0.25 <= ice.min() <= ice.max() <= 1


def test_zoom_by_one_changes_nothing() -> None:
    layer = np.random.default_rng(0).random((9, 12), np.float32)

    assert np.allclose(zoom(layer, 1.0), layer, atol=1e-6)
