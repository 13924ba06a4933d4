"""Random changes to batches: what they may and may not do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.recipe import AugmentSection
from edgekit.runtime.preprocess import normalize
from edgekit.train.augment import crop_and_flip, erase, mix, rand_augment
from edgekit.train.feed import BatchMaker

SPEC = PreprocessSpec(input_size=(8, 9), num_channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=generator(seed)).to(torch.uint8)


@given(
    padding=st.integers(0, 6),
    height=st.integers(7, 12),
    width=st.integers(7, 12),
    flip=st.booleans(),
    seed=st.integers(0, 99),
)
def test_crop_and_flip_equal_the_plain_way(padding: int, height: int, width: int, flip: bool, seed: int) -> None:
    pictures = random_pictures(3, height, width, 2)

    changed = crop_and_flip(pictures, padding, flip=flip, generator=generator(seed))

    # The same draws in the same order; then numpy's own reflection, slicing and mirroring.
    draws = generator(seed)
    top, left = (torch.randint(0, 2 * padding + 1, (3, 1), generator=draws)[:, 0] for _ in range(2))
    mirrored = torch.randint(0, 2, (3, 1), generator=draws)[:, 0] if flip else torch.zeros(3)
    border = ((padding, padding), (padding, padding), (0, 0))
    for index, picture in enumerate(pictures.numpy()):
        padded = np.pad(picture, border, mode="reflect")
        expected = padded[top[index] : top[index] + height, left[index] : left[index] + width]
        np.testing.assert_array_equal(changed[index].numpy(), expected[:, ::-1] if mirrored[index] else expected)


def test_crop_and_flip_change_nothing_when_off() -> None:
    pictures = random_pictures(4, 8, 9, 3)

    assert torch.equal(crop_and_flip(pictures, 0, flip=False, generator=generator()), pictures)


def test_crop_and_flip_leave_the_original_alone() -> None:
    pictures = random_pictures(4, 8, 9, 3)
    before = pictures.clone()

    crop_and_flip(pictures, 2, flip=True, generator=generator())

    assert torch.equal(pictures, before)


def test_flip_mirrors_about_half_of_the_pictures() -> None:
    pictures = random_pictures(400, 4, 4, 1)

    changed = crop_and_flip(pictures, 0, flip=True, generator=generator())

    is_mirrored = (changed == pictures.flip(2)).flatten(1).all(1)
    is_same = (changed == pictures).flatten(1).all(1)
    assert bool((is_mirrored | is_same).all())
    assert 150 < int(is_mirrored.sum()) < 250


def test_rand_augment_changes_nothing_at_magnitude_zero() -> None:
    pictures = random_pictures(4, 3, 8, 8).float()
    config = AugmentSection(rand_ops=3, rand_magnitude=0.0)

    torch.testing.assert_close(rand_augment(pictures, config, generator()), pictures, rtol=0, atol=1e-2)


@given(magnitude=st.floats(0, 1), num_ops=st.integers(1, 4), seed=st.integers(0, 99))
def test_rand_augment_stays_in_range(magnitude: float, num_ops: int, seed: int) -> None:
    pictures = random_pictures(4, 3, 8, 8, seed=seed).float()

    changed = rand_augment(pictures, AugmentSection(rand_ops=num_ops, rand_magnitude=magnitude), generator(seed))

    assert changed.shape == pictures.shape
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 255


def test_rand_augment_makes_different_pictures() -> None:
    pictures = random_pictures(1, 3, 16, 16).float().expand(64, 3, 16, 16)

    changed = rand_augment(pictures, AugmentSection(rand_ops=2, rand_magnitude=0.5), generator())

    assert len({tuple(picture.flatten().tolist()) for picture in changed.round()}) > 40


@pytest.mark.parametrize("seed", range(5))
def test_erase_fills_one_rectangle_with_the_mean(seed: int) -> None:
    pictures = torch.randn(6, 2, 20, 20, generator=generator())

    erased = erase(pictures, 1.0, generator(seed))

    for before, after in zip(pictures, erased, strict=True):
        mask = (before != after).any(0)
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert bool(box.all())  # one solid rectangle
        assert torch.all(after[:, mask] == pictures.mean())
        assert 0 < box.numel() <= 0.35 * 400


def test_erase_touches_the_share_that_was_asked_for() -> None:
    pictures = torch.randn(500, 1, 12, 12, generator=generator())

    touched = (erase(pictures, 0.3, generator()) != pictures).flatten(1).any(1).float().mean()

    assert 0.2 < float(touched) < 0.4
    assert torch.equal(erase(pictures, 0.0, generator()), pictures)


@given(alpha=st.floats(0.05, 4), seed=st.integers(0, 999))
def test_mixup_blends_pictures_as_it_blends_targets(alpha: float, seed: int) -> None:
    labels = torch.arange(6)
    pictures = labels[:, None, None, None].float().expand(6, 1, 3, 3)

    mixed, target = mix(pictures, labels, AugmentSection(mixup=alpha), generator(seed))

    assert 0 <= target.weight <= 1
    assert torch.equal(target.first, labels)
    assert sorted(target.second.tolist()) == labels.tolist()
    expected = target.weight * target.first + (1 - target.weight) * target.second
    torch.testing.assert_close(mixed[:, 0, 0, 0], expected.float(), rtol=1e-4, atol=1e-4)


@given(alpha=st.floats(0.05, 4), seed=st.integers(0, 999))
def test_cutmix_weight_equals_the_area_kept(alpha: float, seed: int) -> None:
    labels = torch.arange(6)
    pictures = labels[:, None, None, None].float().expand(6, 1, 10, 12)

    mixed, target = mix(pictures, labels, AugmentSection(cutmix=alpha), generator(seed))

    for picture, first, second in zip(mixed[:, 0], target.first, target.second, strict=True):
        assert bool(((picture == first) | (picture == second)).all())
        if first != second:
            assert float((picture == first).float().mean()) == pytest.approx(target.weight, abs=1e-6)


def test_coin_decides_when_mixup_and_cutmix_are_on() -> None:
    labels = torch.arange(4)
    pictures = labels[:, None, None, None].float().expand(4, 1, 8, 8)
    config = AugmentSection(mixup=1.0, cutmix=1.0)

    has_blends = {bool((mix(pictures, labels, config, generator(seed))[0] % 1 != 0).any().item()) for seed in range(20)}

    assert has_blends == {True, False}


@pytest.mark.parametrize(
    "config",
    [
        AugmentSection(),
        AugmentSection(crop_padding=2, flip=True),
        AugmentSection(rand_ops=2, erase=0.5, mixup=0.4, cutmix=1.0, flip=True, crop_padding=1),
    ],
)
def test_batch_is_a_function_of_the_seed(config: AugmentSection) -> None:
    maker = BatchMaker(SPEC, config, torch.device("cpu"))
    pictures, labels = random_pictures(5, 8, 9, 3), torch.arange(5)

    first, _ = maker.make(pictures, labels, generator(1))
    again, _ = maker.make(pictures, labels, generator(1))
    other, _ = maker.make(pictures, labels, generator(2))

    assert torch.equal(first, again)
    assert first.shape == (5, 3, 8, 9)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, other) == (config == AugmentSection())


def test_batch_without_changes_is_what_the_board_computes() -> None:
    maker = BatchMaker(SPEC, AugmentSection(), torch.device("cpu"))
    pictures = random_pictures(5, 8, 9, 3)

    batch, target = maker.make(pictures, torch.arange(5), generator())

    np.testing.assert_allclose(batch.numpy(), normalize(pictures.numpy(), SPEC), rtol=1e-5, atol=1e-6)
    assert target.weight == 1.0
