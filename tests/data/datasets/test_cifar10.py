from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.core.errors import DataError
from edgekit.data import cifar
from edgekit.data.cifar import CLASS_NAMES
from edgekit.data.dataset import DATASETS
from edgekit.data.locate import cache_dir
from edgekit.data.memory import MemorySource

CLASSES = CLASS_NAMES[:3]
NUM_PICTURES = {"train": 6, "test": 3}


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder and an empty cache, and a CIFAR-10 of nine pictures."""
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar, "_NUM_PICTURES", NUM_PICTURES)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    mode = "w:xz" if path.name.endswith("xz") else "w:gz"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def flat_jpeg(level: int, size: int = 32) -> bytes:
    return cv2.imencode(".jpg", np.full((size, size, 3), level, np.uint8))[1].tobytes()


def jpeg_members() -> dict[str, bytes]:
    """Pictures in an order that is not that of their names; a picture's level says which one it is."""
    members = {}
    for split, count in NUM_PICTURES.items():
        for position in reversed(range(count)):
            name = f"cifar10/{split}/{CLASSES[position % 3]}/{position // 3:04d}.jpg"
            members[name] = flat_jpeg(40 * (position % 3) + 10 * (position // 3) + 100 * (split == "test"))
    return members


def binary_members() -> dict[str, bytes]:
    def record(label: int) -> bytes:
        return bytes([label]) + bytes([10 + label]) * 1024 + bytes([20]) * 1024 + bytes([30]) * 1024

    return {
        "cifar-10-batches-bin/readme.html": b"<html>",
        "cifar-10-batches-bin/data_batch_2.bin": b"".join(record(label) for label in (3, 4, 5)),
        "cifar-10-batches-bin/data_batch_1.bin": b"".join(record(label) for label in (0, 1, 2)),
        "cifar-10-batches-bin/test_batch.bin": b"".join(record(label) for label in (9, 8, 7)),
    }


def read(name: str, split: str) -> MemorySource:
    source = DATASETS.load(name).read(split)  # type: ignore[arg-type]
    assert isinstance(source, MemorySource)
    assert source.labels is not None
    return source


# ------------------------------------------------------------------------------------------------------ the archive
@pytest.mark.parametrize("name", ["cifar10", "cifar10_jpeg"])
def test_jpeg_archive_is_read_in_the_order_of_names(name: str, data_dir: Path) -> None:
    write_tar(data_dir / "cifar10.tar.xz", jpeg_members())
    source = read(name, "train")
    assert source.name == "cifar10_jpeg"
    assert source.class_names == CLASS_NAMES
    assert source.labels is not None
    assert source.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert np.abs(source.pictures[:, 0, 0, 0].astype(int) - [0, 10, 40, 50, 80, 90]).max() <= 2


def test_decoded_archive_is_read_from_the_cache_the_next_time(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(data_dir / "cifar10.tar.xz", jpeg_members())
    first = read("cifar10", "test")

    def fail(path: Path) -> None:
        raise AssertionError(f"decoded {path} again")

    monkeypatch.setattr(cifar, "_decode_archive", fail)
    second = read("cifar10", "test")
    assert np.array_equal(first.pictures, second.pictures)
    assert np.array_equal(first.labels, second.labels)  # type: ignore[arg-type]


def test_another_archive_is_decoded_anew(data_dir: Path) -> None:
    members = jpeg_members()
    write_tar(data_dir / "cifar10.tar.xz", members)
    read("cifar10", "test")
    members["cifar10/test/airplane/0000.jpg"] = flat_jpeg(250)
    write_tar(data_dir / "cifar10.tar.xz", members)
    assert read("cifar10", "test").pictures[0].min() > 245


def test_damaged_cache_is_made_again(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tar(data_dir / "cifar10.tar.xz", jpeg_members())
    first = read("cifar10", "train")
    (cached,) = (cache_dir() / "cifar10_jpeg").iterdir()
    whole = cached.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole.replace(whole[200:264], bytes(range(64)), 1)):
        cached.write_bytes(damaged)
        assert np.array_equal(read("cifar10", "train").pictures, first.pictures)
        assert "is damaged" in caplog.text
        assert cached.read_bytes() == whole
        caplog.clear()


def test_cache_that_cannot_be_written_is_a_warning(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tar(data_dir / "cifar10.tar.xz", jpeg_members())
    cache_dir().parent.mkdir(parents=True)
    cache_dir().write_bytes(b"a file where the folder should be")
    assert len(read("cifar10", "train")) == 6
    assert "not kept" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cifar10/train/cat/0000.jpg", flat_jpeg(1), "expected 6 train pictures, got 7"),
        ("cifar10/train/airplane/0000.jpg", b"no picture", "train/airplane/0000.jpg"),
        ("cifar10/train/airplane/0000.jpg", flat_jpeg(1, size=16), r"is \[16, 16, 3\], expected \[32, 32, 3\]"),
    ],
)
def test_archive_with_wrong_content_is_an_error(name: str, content: bytes, message: str, data_dir: Path) -> None:
    write_tar(data_dir / "cifar10.tar.xz", {**jpeg_members(), name: content})
    with pytest.raises(DataError, match=message):
        read("cifar10", "train")
    assert not list(cache_dir().rglob("*.npz"))


@pytest.mark.parametrize("name", ["cifar10.tar.xz", "cifar10/cifar-10-binary.tar.gz"])
def test_truncated_archive_is_an_error_that_names_it(name: str, data_dir: Path) -> None:
    path = data_dir / name
    path.parent.mkdir(exist_ok=True)
    write_tar(path, jpeg_members() if name.endswith("xz") else binary_members())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cannot read|expected \d+ bytes") as caught:
        read("cifar10", "train")
    assert str(path) in caught.value.message


# ------------------------------------------------------------------------------------------------------ other forms
def test_jpeg_folder_is_read(data_dir: Path) -> None:
    for name, content in jpeg_members().items():
        path = data_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    source = read("cifar10", "test")
    assert source.name == "cifar10_jpeg"
    assert source.labels is not None
    assert source.labels.tolist() == [0, 1, 2]
    assert np.abs(source.pictures[:, 0, 0, 0].astype(int) - [100, 140, 180]).max() <= 2


def test_binary_form_is_preferred_and_keeps_the_plain_name(data_dir: Path) -> None:
    write_tar(data_dir / "cifar10.tar.xz", jpeg_members())
    (data_dir / "cifar10").mkdir()
    write_tar(data_dir / "cifar10" / "cifar-10-binary.tar.gz", binary_members())
    train, test = read("cifar10", "train"), read("cifar10", "test")
    assert (train.name, test.name) == ("cifar10", "cifar10")
    assert train.labels is not None
    assert train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert train.pictures[4, 31, 0].tolist() == [14, 20, 30]
    assert test.labels is not None
    assert test.labels.tolist() == [9, 8, 7]


def test_binary_form_with_missing_pictures_is_an_error(data_dir: Path) -> None:
    members = binary_members()
    del members["cifar-10-batches-bin/data_batch_2.bin"]
    (data_dir / "cifar10").mkdir()
    write_tar(data_dir / "cifar10" / "cifar-10-binary.tar.gz", members)
    with pytest.raises(DataError, match="expected 18438 bytes of train pictures, got 9219"):
        read("cifar10", "train")


def test_missing_jpeg_form_says_where_it_was_looked_for(data_dir: Path) -> None:
    with pytest.raises(DataError, match="cannot be downloaded") as caught:
        read("cifar10_jpeg", "train")
    assert str(data_dir / "cifar10.tar.xz") in caught.value.message
    assert str(data_dir / "cifar10") in caught.value.message


@pytest.mark.slow
def test_whole_archive_is_read(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(shared_data))
    for split, count in (("train", 50_000), ("test", 10_000)):
        source = read("cifar10", split)
        assert source.pictures.shape == (count, 32, 32, 3)
        assert np.bincount(source.labels).tolist() == [count // 10] * 10  # type: ignore[arg-type]
        if split == "train":
            mean = source.pictures.mean(axis=(0, 1, 2)) / 255
            assert np.abs(mean - cifar.MEAN).max() < 2e-3
