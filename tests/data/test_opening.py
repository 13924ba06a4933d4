from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.core.errors import DataError, OutputError, UnknownNameError, UsageError
from edgekit.data.aliases import add_dataset, aliases_path, read_aliases
from edgekit.data.opening import find_dataset, list_datasets, open_at_hand, open_source
from toy_pictures import write_mnist


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    content = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    for class_name in ("cat", "dog"):
        for part in ("train", "test"):
            path = tmp_path / "pets" / part / class_name
            path.mkdir(parents=True)
            for index in range(30):
                (path / f"{index}.png").write_bytes(content)
    return tmp_path / "pets"


# --------------------------------------------------------------------------------------------------------- what opens
def test_catalogue_name_opens() -> None:
    source = open_source("fashion_mnist_mini", "test")
    assert (source.name, source.split, len(source)) == ("fashion_mnist_mini", "test", 2000)


def test_folder_opens_under_its_own_name(folder: Path) -> None:
    source = open_source(str(folder), "test")
    assert (source.name, source.split, len(source)) == ("pets", "test", 60)


def test_relative_folder_opens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert open_source(".", "train").name == "pets"
    monkeypatch.chdir(folder.parent)
    assert len(open_source("pets", "train")) == 60


def test_folder_is_described_without_reading_pictures(folder: Path) -> None:
    dataset = find_dataset(str(folder))
    assert (dataset.name, dataset.num_channels, dataset.native_size) == ("pets", 3, None)
    assert dataset.find() == folder


# -------------------------------------------------------------------------------------------------------- calibration
def test_calibration_pictures_are_training_pictures_in_mixed_order(folder: Path) -> None:
    calibration = open_source(str(folder), "calibration")
    train = open_source(str(folder), "train")
    assert calibration.split == "calibration"
    assert calibration.labels is not None
    assert sorted(calibration.files) == sorted(train.files)  # type: ignore[union-attr]
    assert 0 < calibration.labels[:10].sum() < 10


def test_calibration_pictures_are_the_same_every_time() -> None:
    first, second = (open_source("fashion_mnist_mini", "calibration") for _ in range(2))
    assert np.array_equal(first.pictures, second.pictures)  # type: ignore[union-attr]
    assert len(first) == 512


def test_calibration_of_a_large_dataset_is_a_draw(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(shared_data))
    source = open_source("fashion_mnist", "calibration")
    assert len(source) == 2048
    assert source.labels is not None
    assert np.bincount(source.labels[:256], minlength=10).min() > 10


# ------------------------------------------------------------------------------------------------------ what does not
def test_only_what_is_at_hand_and_has_the_split_opens(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path / "data", num_train=40, num_test=20)
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path / "data"))
    names = (None, "nowhere", "fashion_mnist_mini", "svhn", "mnist", str(folder))  # the third has no training pictures

    found = [(name, source.split, len(source)) for name, source in open_at_hand(names, "train")]

    assert found == [("mnist", "train", 40), (str(folder), "train", 60)]


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        open_source("fashion_minst", "test")
    assert caught.value.suggestion == "fashion_mnist"


def test_unknown_name_suggests_an_added_one(folder: Path) -> None:
    add_dataset("my_pets", folder)
    with pytest.raises(UnknownNameError) as caught:
        open_source("my_pet", "test")
    assert caught.value.suggestion == "my_pets"


@pytest.mark.parametrize("name", ["./absent", "absent/below", "~/surely/absent/folder"])
def test_path_to_nothing_is_an_error_about_a_folder(name: str) -> None:
    with pytest.raises(DataError, match="no folder"):
        open_source(name, "test")


def test_file_is_an_error_about_a_folder(tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(b"")
    with pytest.raises(DataError, match="is no folder of pictures"):
        open_source(str(tmp_path / "pets.zip"), "test")


# ------------------------------------------------------------------------------------------------------ the user's own
def test_added_dataset_opens_by_its_name_from_anywhere(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    add_dataset("my-pets", Path("pets"))
    monkeypatch.chdir(tmp_path.parent)
    source = open_source("my-pets", "train")
    assert (source.name, len(source)) == ("my-pets", 60)


def test_added_dataset_is_listed_and_can_be_replaced(folder: Path) -> None:
    add_dataset("my_pets", folder)
    add_dataset("my_pets", folder / "train")
    listings = {listing.name: listing for listing in list_datasets()}
    assert listings["my_pets"].path == str(folder / "train")
    assert listings["my_pets"].license is None
    assert listings["fashion_mnist_mini"].path is not None
    assert listings["mnist"].path is None
    assert listings["mnist"].is_downloadable


def test_added_dataset_whose_folder_is_gone_is_listed_without_a_place(folder: Path) -> None:
    add_dataset("my_pets", folder)
    folder.rename(folder.parent / "moved")
    assert [listing.path for listing in list_datasets() if listing.name == "my_pets"] == [None]
    with pytest.raises(DataError, match="no folder"):
        open_source("my_pets", "test")


@pytest.mark.parametrize("name", ["", "my pets", "../pets", "pets/x", "-pets", "pets\n"])
def test_bad_name_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(UsageError, match="is no dataset name"):
        add_dataset(name, folder)
    assert read_aliases() == {}


def test_name_of_the_catalogue_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="'mnist' is a dataset of the catalogue"):
        add_dataset("mnist", folder)


def test_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        add_dataset("mine", tmp_path / "empty")
    with pytest.raises(DataError, match="no folder"):
        add_dataset("mine", tmp_path / "absent")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b"\xff"])
def test_damaged_settings_are_an_error_that_names_the_file(content: bytes) -> None:
    aliases_path().parent.mkdir(parents=True)
    aliases_path().write_bytes(content)
    with pytest.raises(DataError, match="cannot read") as caught:
        open_source("my_pets", "test")
    assert str(aliases_path()) in caught.value.message


def test_settings_folder_that_cannot_be_written_is_an_output_error(folder: Path) -> None:
    aliases_path().parent.parent.mkdir(parents=True)
    aliases_path().parent.write_bytes(b"a file where the folder should be")
    with pytest.raises(OutputError):
        add_dataset("my_pets", folder)
