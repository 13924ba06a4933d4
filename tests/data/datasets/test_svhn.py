from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from edgekit.core.errors import DataError
from edgekit.data.dataset import DATASETS
from edgekit.data.memory import MemorySource


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    (tmp_path / "svhn").mkdir()
    return tmp_path / "svhn" / "test_32x32.mat"


def test_pictures_come_out_in_rows_and_the_digit_zero_as_class_zero(path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    digits = np.array([[10], [1], [9], [10]], np.uint8)
    savemat(path, {"X": pictures.transpose(1, 2, 3, 0), "y": digits}, do_compression=True)
    source = DATASETS.load("svhn").read("test")
    assert isinstance(source, MemorySource)
    assert np.array_equal(source.pictures, pictures)
    assert source.pictures.flags.c_contiguous
    assert source.labels is not None
    assert source.labels.tolist() == [0, 1, 9, 0]


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "without_labels", "other_shape"])
def test_damaged_file_is_an_error_that_names_it(damage: str, path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 5), np.uint8)
    content: dict[str, np.ndarray] = {"X": pictures, "y": np.ones((5, 1), np.uint8)}
    if damage == "without_labels":
        del content["y"]
    if damage == "other_shape":
        content["X"] = pictures[:16]
    savemat(path, content, do_compression=True)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    if damage in {"empty", "text"}:
        path.write_bytes(b"<html>not found</html>" * 20 if damage == "text" else b"")
    with pytest.raises(DataError) as caught:
        DATASETS.load("svhn").read("test")
    assert str(path) in caught.value.message
