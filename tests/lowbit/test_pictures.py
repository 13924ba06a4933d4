from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.lowbit.pictures import find_pictures
from toy_pictures import toy_source, write_folder, write_mnist


def test_training_pictures_are_the_first_that_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "data", num_train=40, num_test=20)
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path / "data"))
    otherwise = toy_source(8)
    found = find_pictures((None, "nowhere", "fashion_mnist_mini", "mnist"), otherwise)
    assert (found.name, found.split, len(found)) == ("mnist", "train", 40)
    assert find_pictures((None, "fashion_mnist_mini"), otherwise) is otherwise


def test_folder_of_the_user_is_trained_on(tmp_path: Path) -> None:
    write_folder(tmp_path / "mine", {"train": 12, "test": 4})
    found = find_pictures((str(tmp_path / "mine"),), toy_source(8))
    assert len(found) == 12
