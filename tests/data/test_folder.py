from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import DataError
from edgekit.data.folder import FolderSource, list_pictures, open_folder
from edgekit.data.hash_split import hash_split

NAMES = [f"{index:04d}.png" for index in range(60)]


def write_pictures(folder: Path, names: Iterable[str] = NAMES, *, level: int = 100) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = cv2.imencode(".png", np.full((4, 5, 3), level, np.uint8))[1].tobytes()
    for name in names:
        (folder / name).write_bytes(content)


def labelled(source: FolderSource) -> dict[str, str]:
    assert source.labels is not None
    pairs = zip(source.files, source.labels, strict=True)
    return {file: source.class_names[label] for file, label in pairs}


# ---------------------------------------------------------------------------------------------------- the hash split
GOLDEN_SPLITS = {
    "0001.jpg": "train",
    "0002.jpg": "val",
    "0003.jpg": "test",
    "0004.jpg": "train",
    "0009.jpg": "test",
    "IMG_20240101.JPG": "val",
    "stra\u00dfe.png": "train",
    "\u65e5\u672c.webp": "train",
}


@pytest.mark.parametrize(("name", "split"), GOLDEN_SPLITS.items())
def test_hash_split_stays_as_it_was_first_published(name: str, split: str) -> None:
    assert hash_split(name) == split


def test_hash_split_shares_are_80_10_10() -> None:
    splits = [hash_split(f"picture-{index}.jpg") for index in range(20_000)]
    assert abs(splits.count("train") / 20_000 - 0.8) < 0.01
    assert abs(splits.count("val") / 20_000 - 0.1) < 0.01


@given(name=st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=20))
def test_hash_split_is_the_same_for_composed_and_decomposed_names(name: str) -> None:
    assert hash_split(unicodedata.normalize("NFD", name)) == hash_split(unicodedata.normalize("NFC", name))


def test_hash_split_takes_names_that_are_no_utf_8() -> None:
    assert hash_split(b"caf\xe9.png".decode("utf-8", errors="surrogateescape")) in {"train", "val", "test"}


def test_picture_keeps_its_split_when_others_are_added(tmp_path: Path) -> None:
    write_pictures(tmp_path / "cat")
    write_pictures(tmp_path / "dog")
    before = {split: set(open_folder(tmp_path, split).files) for split in ("train", "val", "test")}
    write_pictures(tmp_path / "ant", [f"new-{index}.png" for index in range(40)])
    write_pictures(tmp_path / "cat", [f"new-{index}.png" for index in range(40)])
    for split in ("train", "val", "test"):
        assert before[split] <= set(open_folder(tmp_path, split).files)


# ------------------------------------------------------------------------------------------------------ class folders
def test_class_folders_are_split_without_overlap_or_loss(tmp_path: Path) -> None:
    write_pictures(tmp_path / "cat")
    write_pictures(tmp_path / "dog")
    files = [file for split in ("train", "val", "test") for file in open_folder(tmp_path, split).files]
    assert sorted(files) == sorted([f"cat/{name}" for name in NAMES] + [f"dog/{name}" for name in NAMES])


def test_labels_follow_the_sorted_class_names(tmp_path: Path) -> None:
    for name in ("zebra", "Ant", "bee"):
        write_pictures(tmp_path / name)
    source = open_folder(tmp_path, "train")
    assert source.class_names == ("Ant", "bee", "zebra")
    assert all(file.split("/")[0] == name for file, name in labelled(source).items())


def test_calibration_of_class_folders_is_the_training_part(tmp_path: Path) -> None:
    write_pictures(tmp_path / "cat")
    write_pictures(tmp_path / "dog")
    calibration, train = open_folder(tmp_path, "calibration"), open_folder(tmp_path, "train")
    assert calibration.split == "calibration"
    assert calibration.files == train.files


def test_pictures_deeper_inside_a_class_folder_belong_to_it(tmp_path: Path) -> None:
    write_pictures(tmp_path / "apartment" / "outdoor")
    write_pictures(tmp_path / "attic")
    source = open_folder(tmp_path, "train")
    assert source.class_names == ("apartment", "attic")
    assert any(file.startswith("apartment/outdoor/") for file in source.files)


def test_hidden_files_and_other_files_are_skipped(tmp_path: Path) -> None:
    write_pictures(tmp_path / "cat", ["a.png", "._a.png", "notes.txt", ".DS_Store", "b.JPEG"])
    write_pictures(tmp_path / "cat" / ".thumbnails", ["a.png"])
    assert list_pictures(tmp_path / "cat") == ["a.png", "b.JPEG"]


def test_class_folder_without_pictures_is_no_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pictures(tmp_path / "cat")
    write_pictures(tmp_path / "dog")
    (tmp_path / "empty").mkdir()
    assert open_folder(tmp_path, "train").class_names == ("cat", "dog")
    assert "empty" in caplog.text


def test_read_and_take_give_the_pictures_of_the_folder(tmp_path: Path) -> None:
    write_pictures(tmp_path / "cat", level=10)
    write_pictures(tmp_path / "dog", level=200)
    source = open_folder(tmp_path, "train")
    last = source.take(np.array([len(source) - 1, 0]), split="calibration")
    assert last.read(0).shape == (4, 5, 3)
    assert (last.read(0).max(), last.read(1).max()) == (200, 10)
    assert last.labels is not None
    assert last.labels.tolist() == [1, 0]
    assert last.path(1) == tmp_path / source.files[0]


# ---------------------------------------------------------------------------------------------- train, val and test
@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("Training", "valid", "Testing"), ("TRAIN", "Validation", "Test")],
)
def test_sub_folders_say_which_split(train: str, val: str, test: str, tmp_path: Path) -> None:
    for part, stem in ((train, "a"), (val, "b"), (test, "c")):
        write_pictures(tmp_path / part / "cat", [f"{stem}.png"])
        write_pictures(tmp_path / part / "dog", [f"{stem}.png"])
    assert open_folder(tmp_path, "train").files == ("cat/a.png", "dog/a.png")
    assert open_folder(tmp_path, "val").files == ("cat/b.png", "dog/b.png")
    assert open_folder(tmp_path, "test").files == ("cat/c.png", "dog/c.png")
    assert open_folder(tmp_path, "calibration").files == ("cat/a.png", "dog/a.png")


def test_test_pictures_are_halved_for_calibration_when_there_is_no_train(tmp_path: Path) -> None:
    write_pictures(tmp_path / "val" / "cat")
    write_pictures(tmp_path / "val" / "dog")
    calibration, test = open_folder(tmp_path, "calibration"), open_folder(tmp_path, "test")
    assert not set(calibration.files) & set(test.files)
    assert sorted(calibration.files + test.files) == sorted(open_folder(tmp_path, "val").files)
    assert calibration.class_names == ("cat", "dog")


def test_train_without_class_folders_is_refused_for_training(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train")
    write_pictures(tmp_path / "test")
    assert len(open_folder(tmp_path, "calibration")) == len(NAMES)
    with pytest.raises(DataError, match="training needs class folders"):
        open_folder(tmp_path, "train")


def test_val_is_for_testing_when_there_is_no_labelled_test(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train" / "cat", ["a.png"])
    write_pictures(tmp_path / "val" / "cat", ["b.png"])
    write_pictures(tmp_path / "test", ["c.png"])
    assert labelled(open_folder(tmp_path, "test")) == {"cat/b.png": "cat"}


def test_train_alone_is_split_by_hash(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train" / "cat")
    write_pictures(tmp_path / "train" / "dog")
    splits = {split: open_folder(tmp_path, split).files for split in ("train", "test")}
    assert splits["test"]
    assert not set(splits["train"]) & set(splits["test"])


def test_test_labels_use_the_label_order_of_training(tmp_path: Path) -> None:
    for name in ("ant", "bee", "cat"):
        write_pictures(tmp_path / "train" / name, ["a.png"])
    for name in ("bee", "cat"):
        write_pictures(tmp_path / "test" / name, ["b.png"])
    source = open_folder(tmp_path, "test")
    assert source.class_names == ("ant", "bee", "cat")
    assert labelled(source) == {"bee/b.png": "bee", "cat/b.png": "cat"}


def test_class_that_training_does_not_know_is_an_error(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train" / "cat", ["a.png"])
    write_pictures(tmp_path / "test" / "cats", ["a.png"])
    with pytest.raises(DataError, match="class 'cats' is not among the 1 classes of train"):
        open_folder(tmp_path, "test")


# --------------------------------------------------------------------------------------------------------- flat folders
def test_flat_folder_is_unlabelled_and_halved(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    calibration, test = open_folder(tmp_path, "calibration"), open_folder(tmp_path, "test")
    assert calibration.labels is None
    assert calibration.class_names == ()
    assert sorted(calibration.files + test.files) == NAMES
    assert min(len(calibration), len(test)) > 15


def test_flat_folder_of_one_picture_serves_for_both(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["only.png"])
    assert open_folder(tmp_path, "calibration").files == ("only.png",)
    assert open_folder(tmp_path, "test").files == ("only.png",)


@pytest.mark.parametrize("split", ["train", "val"])
def test_flat_folder_is_refused_for_training(split: str, tmp_path: Path) -> None:
    write_pictures(tmp_path)
    with pytest.raises(DataError, match="60 pictures without labels"):
        open_folder(tmp_path, split)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------- bad folders
@pytest.mark.parametrize("split", ["train", "val", "test", "calibration"])
def test_empty_folder_is_an_error_that_names_it(split: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no pictures") as caught:
        open_folder(tmp_path, split)  # type: ignore[arg-type]
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint is not None


def test_missing_folder_and_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        open_folder(tmp_path / "absent", "train")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="is no folder"):
        open_folder(tmp_path / "file", "train")


def test_split_folders_without_pictures_are_an_error(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "cat").mkdir(parents=True)
    for split in ("train", "test", "calibration"):
        with pytest.raises(DataError, match=f"no pictures in split '{split}'"):
            open_folder(tmp_path, split)  # type: ignore[arg-type]


def test_missing_sub_folder_is_an_error(tmp_path: Path) -> None:
    write_pictures(tmp_path / "test" / "cat", ["a.png"])
    with pytest.raises(DataError, match="no sub-folder train"):
        open_folder(tmp_path, "train")
    with pytest.raises(DataError, match="no sub-folder val for"):
        open_folder(tmp_path, "val")


def test_one_class_is_refused_for_training_only(tmp_path: Path) -> None:
    write_pictures(tmp_path / "cat")
    with pytest.raises(DataError, match=r"at least 2 classes, got 1 \(cat\)"):
        open_folder(tmp_path, "train")
    assert len(open_folder(tmp_path, "calibration")) > 0
    assert len(open_folder(tmp_path, "test")) > 0


def test_too_few_pictures_for_a_split_are_an_error(tmp_path: Path) -> None:
    write_pictures(tmp_path / "cat", ["0001.jpg"])
    write_pictures(tmp_path / "dog", ["0001.jpg"])
    with pytest.raises(DataError, match="none of its 2 pictures falls into split 'test'"):
        open_folder(tmp_path, "test")
