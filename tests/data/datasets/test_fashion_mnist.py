from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.data.dataset import DATASETS
from edgekit.data.locate import hash_file
from edgekit.data.memory import MemorySource


def test_whole_dataset_is_read_from_a_data_folder(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(shared_data))
    dataset = DATASETS.load("fashion_mnist")
    assert dataset.find() == shared_data / "fashion-mnist"
    train, test = dataset.read("train"), dataset.read("test")
    for source, count in ((train, 60_000), (test, 10_000)):
        assert isinstance(source, MemorySource)
        assert source.pictures.shape == (count, 28, 28, 1)
        assert source.labels is not None
        assert np.bincount(source.labels).tolist() == [count // 10] * 10
    assert isinstance(train, MemorySource)
    assert abs(train.pictures.mean() / 255 - dataset.mean[0]) < 1e-4
    assert abs(train.pictures.std() / 255 - dataset.std[0]) < 1e-4


def test_files_are_known_by_their_hash_when_they_lie_loose(shared_data: Path) -> None:
    for file in DATASETS.load("fashion_mnist").files:
        assert hash_file(shared_data / "fashion-mnist" / file.name) in file.known_sha256


def test_mnist_does_not_take_the_files_of_fashion_mnist(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(shared_data / "fashion-mnist"))
    assert DATASETS.load("mnist").find() is None
    assert DATASETS.load("fashion_mnist").find() == shared_data / "fashion-mnist"
