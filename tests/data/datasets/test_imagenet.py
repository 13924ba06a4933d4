from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.core.errors import DataError
from edgekit.data.dataset import DATASETS
from edgekit.data.folder import FolderSource
from edgekit.data.imagenet_folder import is_sample_folder
from edgekit.data.opening import open_source

WNIDS = ("n01440764", "n01443537", "n01484850")


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    return tmp_path


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())


def read(split: str) -> FolderSource:
    source = DATASETS.load("imagenet").read(split)  # type: ignore[arg-type]
    assert isinstance(source, FolderSource)
    return source


def test_wnid_folders_are_read_and_val_is_for_testing(data_dir: Path) -> None:
    for wnid in WNIDS:
        write_picture(data_dir / "imagenet" / "train" / wnid / f"{wnid}_1.JPEG")
        write_picture(data_dir / "imagenet" / "val" / wnid / "ILSVRC2012_val_1.JPEG")
    write_picture(data_dir / "imagenet" / "test" / "ILSVRC2012_test_1.JPEG")
    test = read("test")
    assert test.split == "test"
    assert test.root == data_dir / "imagenet" / "val"
    assert test.labels is not None
    assert test.labels.tolist() == [0, 1, 2]
    assert test.class_names == WNIDS
    assert len(open_source("imagenet", "calibration")) == 3


def test_class_names_come_from_the_synset_list_when_there_is_one(data_dir: Path) -> None:
    for wnid in WNIDS:
        for part in ("train", "val"):
            write_picture(data_dir / "imagenet" / part / wnid / "a.JPEG")
    words = "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n"
    (data_dir / "imagenet" / "LOC_synset_mapping.txt").write_text(words, encoding="utf-8")
    assert read("test").class_names == ("tench", "goldfish", "n01484850")


def test_val_alone_is_halved_for_calibration(data_dir: Path) -> None:
    for wnid in WNIDS:
        for index in range(20):
            write_picture(data_dir / "imagenet" / "val" / wnid / f"ILSVRC2012_val_{wnid}_{index}.JPEG")
    calibration, test = read("calibration"), read("test")
    assert not set(calibration.files) & set(test.files)
    assert len(calibration) + len(test) == 60


def test_flat_sample_is_labelled_by_its_file_names(data_dir: Path) -> None:
    for label in range(0, 80, 2):
        write_picture(data_dir / "imagenet-sample" / f"{label:04d}_n{label:08d}_great_bird_{label}.jpg")
    halves = {split: read(split) for split in ("calibration", "test")}
    labels = [half.labels.tolist() for half in halves.values() if half.labels is not None]
    assert sorted(labels[0] + labels[1]) == list(range(0, 80, 2))
    assert min(map(len, labels)) > 5
    names = halves["test"].class_names
    assert len(names) == 1000
    assert (names[4], names[5]) == ("great bird 4", "class 0005")
    assert all(
        f"{names[label]}.jpg".replace(" ", "_") in file
        for label, file in zip(labels[1], halves["test"].files, strict=True)
    )


def test_flat_sample_cannot_be_trained_on(data_dir: Path) -> None:
    write_picture(data_dir / "imagenet-sample" / "0000_n01440764_tench.jpg")
    with pytest.raises(DataError, match="has no split 'train'"):
        read("train")


@pytest.mark.parametrize(
    "names", [[], ["a.jpg"], ["0000_n01440764_tench.jpg", "a.jpg"], ["1000_n01440764_tench.jpg"], ["0001_cat.jpg"]]
)
def test_other_folders_are_no_sample(names: list[str], tmp_path: Path) -> None:
    for name in names:
        write_picture(tmp_path / name)
    assert not is_sample_folder(tmp_path)


def test_missing_imagenet_says_where_it_was_looked_for(data_dir: Path) -> None:
    with pytest.raises(DataError, match="imagenet is not on this machine") as caught:
        read("test")
    assert str(data_dir / "imagenet") in caught.value.message
    assert caught.value.hint is not None
    assert "EDGEKIT_DATA" in caught.value.hint


def test_real_sample_is_read(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(shared_data))
    test, calibration = read("test"), read("calibration")
    assert (test.name, len(test) + len(calibration)) == ("imagenet_sample", 500)
    assert test.class_names[2] == "great white shark"
    assert test.read(0).ndim == 3
