"""Training batches from picture files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgekit.core.errors import DataError
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.recipe import AugmentSection
from edgekit.data.folder import FolderSource, open_folder
from edgekit.train import stream
from edgekit.train.feed import BatchMaker
from edgekit.train.stream import StreamFeed, crop_at_random
from toy_pictures import write_folder

SPEC = PreprocessSpec(input_size=(24, 24), num_channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, crop_fraction=0.875)


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    """21 training pictures of 40 x 40."""
    write_folder(tmp_path, {"train": 21, "test": 2})
    return open_folder(tmp_path, "train")


def make_feed(source: FolderSource, *, batch_size: int = 8, seed: int = 0) -> StreamFeed:
    maker = BatchMaker(SPEC, AugmentSection(flip=True, mixup=0.2), torch.device("cpu"))
    return StreamFeed(source, maker, batch_size, seed)


def read(feed: StreamFeed, epoch: int) -> list[Tensor]:
    return [pictures for pictures, _ in feed.batches(epoch)]


def test_stream_gives_whole_batches_at_the_input_size(source: FolderSource) -> None:
    batches = list(make_feed(source).batches(1))

    assert [list(pictures.shape) for pictures, _ in batches] == [[8, 3, 24, 24]] * 2
    assert all(pictures.is_contiguous(memory_format=torch.channels_last) for pictures, _ in batches)
    assert all(target.first.dtype == torch.int64 for _, target in batches)


def test_stream_gives_one_smaller_batch_when_there_are_too_few_pictures(source: FolderSource) -> None:
    assert [len(pictures) for pictures in read(make_feed(source, batch_size=100), 1)] == [21]


def test_stream_is_a_function_of_seed_and_epoch(source: FolderSource) -> None:
    first, again = read(make_feed(source), 3), read(make_feed(source), 3)
    other_epoch, other_seed = read(make_feed(source), 4), read(make_feed(source, seed=1), 3)

    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other_epoch[0])
    assert not torch.equal(first[0], other_seed[0])


def test_stream_does_not_depend_on_the_number_of_threads(source: FolderSource, monkeypatch: pytest.MonkeyPatch) -> None:
    several = read(make_feed(source), 1)
    monkeypatch.setattr("edgekit.data.reading.NUM_WORKERS", 1)

    assert all(torch.equal(a, b) for a, b in zip(several, read(make_feed(source), 1), strict=True))


def test_unreadable_picture_is_named_and_its_place_taken(source: FolderSource) -> None:
    source.path(5).write_bytes(b"not a picture")
    feed = make_feed(source)

    assert [len(pictures) for pictures in read(feed, 1)] == [8, 8]
    assert feed.unreadable.num_pictures == 1
    assert source.path(5).name in feed.unreadable.reasons[0]


def test_too_many_unreadable_pictures_end_the_epoch(source: FolderSource) -> None:
    for index in range(3):
        source.path(index).write_bytes(b"")

    with pytest.raises(DataError, match="unreadable"):
        read(make_feed(source), 1)


def test_pictures_without_labels_cannot_train(tmp_path: Path) -> None:
    write_folder(tmp_path / "flat", {"": 4}, num_classes=1)
    unlabelled = open_folder(tmp_path / "flat" / "class_0", "test")

    with pytest.raises(DataError, match="no labels"):
        make_feed(unlabelled)


@pytest.mark.parametrize(("num_channels", "wanted"), [(1, 1), (1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("size", [(24, 24), (9, 200), (300, 120), (1, 1)])
def test_crop_has_the_inputs_size_and_channels(size: tuple[int, int], num_channels: int, wanted: int) -> None:
    picture = np.full((*size, num_channels), 77, np.uint8)
    spec = PreprocessSpec(input_size=(24, 32), num_channels=wanted, mean=(0.5,) * wanted, std=(0.5,) * wanted)

    cropped = crop_at_random(picture, spec, np.random.default_rng(0))

    assert cropped.shape == (24, 32, wanted)
    assert cropped.dtype == np.uint8
    assert np.all(cropped == 77)


@given(height=st.integers(1, 400), width=st.integers(1, 400), seed=st.integers(0, 99))
def test_window_lies_inside_and_keeps_area_and_shape(height: int, width: int, seed: int) -> None:
    top, left, tall, wide = stream._draw_window(height, width, np.random.default_rng(seed))

    assert 0 <= top <= top + tall <= height
    assert 0 <= left <= left + wide <= width
    assert tall >= 1
    assert wide >= 1
    if (tall, wide) != (height, width) and min(height, width) > 50:
        low, high = stream.CROP_SCALE
        assert 0.93 * low <= tall * wide / (height * width) <= 1.07 * high
        assert 0.70 <= wide / tall <= 1.43


def test_crops_of_one_picture_differ_between_epochs(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 4, "test": 2})
    feed = StreamFeed(open_folder(tmp_path, "train"), BatchMaker(SPEC, AugmentSection(), torch.device("cpu")), 4, 0)

    def means() -> Iterator[float]:
        for epoch in range(6):
            for pictures in read(feed, epoch):
                yield from pictures.mean((1, 2, 3)).tolist()

    assert len(set(means())) == 24
