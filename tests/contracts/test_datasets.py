"""What every dataset of the catalogue promises. A new one needs no test here."""

from __future__ import annotations

import re

import pytest

from edgekit.core.errors import UnknownNameError
from edgekit.data.dataset import DATASETS, Dataset


@pytest.fixture(params=DATASETS.names)
def dataset(request: pytest.FixtureRequest) -> Dataset:
    return DATASETS.load(request.param)


def test_catalogue_holds_the_promised_datasets() -> None:
    promised = {"cifar10", "fashion_mnist", "fashion_mnist_mini", "imagenet", "mnist", "svhn"}
    assert promised <= set(DATASETS.names)


def test_name_is_the_file_name(dataset: Dataset) -> None:
    assert dataset.name in DATASETS.names
    assert DATASETS.load(dataset.name) is dataset


def test_title_and_license_are_one_line_each(dataset: Dataset) -> None:
    for text in (dataset.title, dataset.license):
        assert text.strip() == text
        assert 0 < len(text) <= 100
        assert "\n" not in text


def test_class_names_are_unique(dataset: Dataset) -> None:
    assert len(set(dataset.class_names)) == len(dataset.class_names)
    assert len(dataset.class_names) != 1
    assert all(name.strip() == name and name for name in dataset.class_names)


def test_statistics_fit_the_channels_and_the_scale(dataset: Dataset) -> None:
    assert dataset.num_channels in {1, 3}
    assert len(dataset.mean) == len(dataset.std) == dataset.num_channels
    assert all(0 < value < 1 for value in dataset.mean)
    assert all(0 < value < 0.5 for value in dataset.std)


def test_native_size_is_positive(dataset: Dataset) -> None:
    assert dataset.native_size is None or min(dataset.native_size) > 0


def test_splits_allow_measuring(dataset: Dataset) -> None:
    assert "test" in dataset.splits
    assert {"train", "calibration"} & set(dataset.splits)


def test_files_have_an_address_and_a_hash(dataset: Dataset) -> None:
    names = [file.name for file in dataset.files]
    assert len(set(names)) == len(names)
    for file in dataset.files:
        assert file.url.startswith(("https://", "http://"))
        assert file.url.endswith(f"/{file.name}")
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in file.known_sha256)


def test_finding_needs_no_network_and_says_where(dataset: Dataset) -> None:
    # The tests' own cache is empty and $EDGEKIT_DATA unset: only what is embedded is there.
    path = dataset.find()
    assert (path is not None) == (dataset.name == "fashion_mnist_mini")


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        DATASETS.load("fashion_mnits")
    assert caught.value.suggestion == "fashion_mnist"
