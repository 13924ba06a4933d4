"""What every corruption file promises. A new one needs no test here."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgekit.core.errors import DataError, UnknownNameError, UsageError
from edgekit.perturb.corruption import CORRUPTIONS, FAMILIES, SEVERITIES, Corruption, corrupt, list_corruptions

IMAGENET_C = {
    "noise": {"gaussian_noise", "shot_noise", "impulse_noise"},
    "blur": {"defocus_blur", "glass_blur", "motion_blur", "zoom_blur"},
    "weather": {"snow", "frost", "fog", "brightness"},
    "digital": {"contrast", "elastic_transform", "pixelate", "jpeg_compression"},
}


def scenes(num: int, height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    """Pictures with what pictures have: slow shades, edges, fine texture."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[0:height, 0:width]
    found = np.empty((num, height, width, channels))
    for index in range(num):
        for channel in range(channels):
            phase, angle = rng.uniform(0, 6, 2)
            slope = np.cos(angle) * rows / height + np.sin(angle) * columns / width
            found[index, ..., channel] = (
                0.4 + 0.2 * np.sin(4 * slope + phase) + 0.05 * rng.standard_normal((height, width))
            )
        top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
        found[index, top : top + height // 3, left : left + width // 3] += 0.35
    return (255 * np.clip(found, 0, 1)).astype(np.uint8)


@pytest.fixture(params=CORRUPTIONS.names)
def corruption(request: pytest.FixtureRequest) -> Corruption:
    return CORRUPTIONS.load(request.param)


def test_catalogue_holds_those_of_imagenet_c() -> None:
    found = {family: {one.name for one in list_corruptions() if one.family == family} for family in FAMILIES}

    assert found == IMAGENET_C
    assert [one.family for one in list_corruptions()] == sorted(
        (one.family for one in list_corruptions()), key=FAMILIES.index
    )


def test_name_is_the_file_and_title_is_one_line(corruption: Corruption) -> None:
    assert CORRUPTIONS.load(corruption.name) is corruption
    assert 0 < len(corruption.title) <= 40


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (8, 8, 1), (9, 40, 3), (65, 72, 3), (80, 66, 1)])
def test_shape_and_type_stay(corruption: Corruption, shape: tuple[int, int, int]) -> None:
    pictures = scenes(2, *shape)
    kept = pictures.copy()

    for severity in SEVERITIES:
        changed = corrupt(corruption, pictures, severity, np.random.default_rng(0))
        assert changed.dtype == np.uint8
        assert changed.shape == pictures.shape
        assert (changed != pictures).any() or severity < 3  # 95 % of 8 pixels are 8
    assert (pictures == kept).all()


@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_pictures_are_taken(corruption: Corruption, value: int) -> None:
    pictures = np.full((1, 28, 28, 3), value, np.uint8)

    assert corrupt(corruption, pictures, 5, np.random.default_rng(0)).shape == pictures.shape


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_distortion_rises_with_severity(corruption: Corruption, shape: tuple[int, int, int]) -> None:
    assert_rising(corruption, scenes(60, *shape))


@pytest.mark.slow
def test_distortion_of_large_pictures_rises_with_severity(corruption: Corruption) -> None:
    # The jump of the elastic sheet alone, the same at all severities, moves all of the texture of one pixel.
    assert_rising(corruption, scenes(6, 160, 160, 3), by=1.05)


def assert_rising(corruption: Corruption, pictures: npt.NDArray[np.uint8], by: float = 1.1) -> None:
    """The same randomness at every severity, as robustness is measured."""
    levels = [corrupt(corruption, pictures, severity, np.random.default_rng(5)) for severity in SEVERITIES]
    distances = [float(np.abs(level.astype(int) - pictures).mean()) for level in levels]
    assert distances == sorted(distances), distances
    assert distances[4] > by * distances[0] > 0


def test_same_randomness_gives_same_pictures(corruption: Corruption) -> None:
    pictures = scenes(3, 28, 28, 3)
    first, second, other = (corrupt(corruption, pictures, 3, np.random.default_rng(seed)) for seed in (1, 1, 2))

    assert (first == second).all()
    is_fixed = corruption.name in {
        "brightness", "contrast", "defocus_blur", "jpeg_compression", "pixelate", "zoom_blur"
    }  # fmt: skip
    assert (first == other).all() == is_fixed


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_other_severities_are_refused(corruption: Corruption, severity: int) -> None:
    with pytest.raises(UsageError, match=f"severity {severity} of {corruption.name} does not exist, expected 1 to 5"):
        corrupt(corruption, scenes(1, 28, 28, 1), severity, np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(7, 28, 1), (4, 4, 3), (1, 1, 3)])
def test_picture_smaller_than_the_kernels_is_refused(corruption: Corruption, shape: tuple[int, int, int]) -> None:
    with pytest.raises(DataError, match=f"{corruption.name} needs pictures of at least 8 pixels, got"):
        corrupt(corruption, np.zeros((1, *shape), np.uint8), 1, np.random.default_rng(0))


@pytest.mark.parametrize(
    "pictures",
    [
        np.zeros((1, 28, 28, 2), np.uint8),
        np.zeros((28, 28, 3), np.uint8),
        np.zeros((1, 28, 28, 3), np.float32),
        np.zeros((1, 0, 28, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(corruption: Corruption, pictures: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(DataError, match="expected uint8"):
        corrupt(corruption, pictures, 1, np.random.default_rng(0))


def test_unknown_name_has_a_suggestion() -> None:
    with pytest.raises(UnknownNameError) as caught:
        CORRUPTIONS.load("gausian_noise")
    assert caught.value.suggestion == "gaussian_noise"


def test_no_picture_stays_none(corruption: Corruption) -> None:
    assert corrupt(corruption, np.zeros((0, 28, 28, 1), np.uint8), 1, np.random.default_rng(0)).shape == (0, 28, 28, 1)
