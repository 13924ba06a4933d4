from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit.core.errors import DataError
from edgekit.data.dataset import DATASETS
from edgekit.data.datasets import fashion_mnist_mini
from edgekit.data.idx import read_idx
from edgekit.data.memory import MemorySource

MAX_SIZE_BYTES = 2_000_000


def read(split: str) -> MemorySource:
    source = DATASETS.load("fashion_mnist_mini").read(split)  # type: ignore[arg-type]
    assert isinstance(source, MemorySource)
    assert source.labels is not None
    return source


def read_indices(split: str) -> np.ndarray:
    with np.load(fashion_mnist_mini.embedded_path()) as archive:
        return archive[f"{split}_t10k_indices"].astype(np.int64)


@pytest.mark.parametrize(("split", "per_class"), [("test", [200] * 10), ("calibration", [52] * 2 + [51] * 8)])
def test_parts_are_stratified_and_mixed(split: str, per_class: list[int]) -> None:
    labels = read(split).labels
    assert labels is not None
    assert np.bincount(labels).tolist() == per_class
    assert np.bincount(labels[:100], minlength=10).min() >= 3


def test_parts_share_no_picture() -> None:
    test, calibration = read_indices("test"), read_indices("calibration")
    assert len(np.unique(np.concatenate([test, calibration]))) == 2512
    pictures = [read(split).pictures.reshape(-1, 784) for split in ("test", "calibration")]
    assert not {row.tobytes() for row in pictures[0]} & {row.tobytes() for row in pictures[1]}


def test_pictures_are_those_of_the_original(shared_data: Path) -> None:
    originals = read_idx(shared_data / "fashion-mnist" / "t10k-images-idx3-ubyte.gz")
    labels = read_idx(shared_data / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz")
    for split in ("test", "calibration"):
        source, indices = read(split), read_indices(split)
        assert np.array_equal(source.pictures[..., 0], originals[indices])
        assert np.array_equal(source.labels, labels[indices])  # type: ignore[arg-type]


def test_embedded_folder_stays_small_and_holds_the_licence() -> None:
    folder = fashion_mnist_mini.embedded_path().parent
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MAX_SIZE_BYTES
    assert "MIT License" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert "Zalando" in (folder / "LICENSE").read_text(encoding="utf-8")


def test_tool_makes_the_same_bytes_again(
    repository: Path, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(shared_data))
    monkeypatch.setattr("sys.argv", ["make_embedded_data.py", "--out", str(tmp_path)])
    spec = importlib.util.spec_from_file_location("make_embedded_data", repository / "tools" / "make_embedded_data.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.main()
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(made) == 7
    for path in made:
        assert (tmp_path / path).read_bytes() == (repository / path).read_bytes()


def test_readme_pictures_are_in_neither_part(repository: Path) -> None:
    embedded = {row.tobytes() for split in ("test", "calibration") for row in read(split).pictures}
    paths = sorted((repository / "docs" / "pictures").glob("*.png"))
    assert len(paths) == 6
    for path in paths:
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert picture is not None
        assert picture.shape == (28, 28)
        assert picture.tobytes() not in embedded


def test_training_on_it_is_refused() -> None:
    from edgekit.data.opening import open_source

    with pytest.raises(DataError, match="fashion_mnist_mini has no split 'train'; it has calibration, test"):
        open_source("fashion_mnist_mini", "train")


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "absent"])
def test_damaged_file_is_a_clear_error(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = fashion_mnist_mini.embedded_path().read_bytes()
    path = tmp_path / "mini.npz"
    if damage != "absent":
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        path.write_bytes({"truncated": content[:middle], "empty": b"", "flipped": flipped}[damage])
    monkeypatch.setattr(fashion_mnist_mini, "embedded_path", lambda: path)
    with pytest.raises(DataError, match="is damaged"):
        read("test")
