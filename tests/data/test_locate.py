from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from edgekit.core.errors import DataError
from edgekit.data.dataset import RemoteFile
from edgekit.data.locate import cache_dir, data_dirs, find_file, find_files, obtain_file

CONTENT = b"the content"
FILE = RemoteFile(
    name="data.bin",
    url="http://127.0.0.1:9/data.bin",  # the discard port: refused at once
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    other_sha256=(hashlib.sha256(b"another packing").hexdigest(),),
)


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.setenv("EDGEKIT_DATA", f"{first}{os.pathsep}{second}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return first, second


def write(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_data_dirs_are_empty_when_the_variable_is_unset() -> None:
    assert data_dirs() == ()


def test_data_dirs_skip_empty_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", f"{os.pathsep}/a{os.pathsep}")
    assert data_dirs() == (Path("/a"),)


@pytest.mark.parametrize("folder", ["my_set", "my-set", ""])
def test_file_is_found_in_each_place_of_a_data_folder(folder: str, roots: tuple[Path, Path]) -> None:
    path = write(roots[1] / folder / "data.bin")
    assert find_file("my_set", FILE) == path


def test_file_in_the_first_folder_wins(roots: tuple[Path, Path]) -> None:
    write(roots[1] / "my_set" / "data.bin")
    path = write(roots[0] / "my-set" / "data.bin")
    assert find_file("my_set", FILE) == path


@pytest.mark.usefixtures("roots")
def test_file_is_found_in_the_cache() -> None:
    path = write(cache_dir() / "my_set" / "data.bin")
    assert obtain_file("my_set", FILE) == path


def test_loose_file_of_another_dataset_is_passed_over(roots: tuple[Path, Path]) -> None:
    write(roots[0] / "data.bin", b"the same name, another dataset")
    path = write(roots[1] / "data.bin", b"another packing")
    assert find_file("my_set", FILE) == path


def test_file_in_the_datasets_own_folder_is_taken_whatever_its_hash(roots: tuple[Path, Path]) -> None:
    path = write(roots[0] / "my_set" / "data.bin", b"a third packing")
    assert find_file("my_set", FILE) == path


def test_find_files_wants_them_all(roots: tuple[Path, Path]) -> None:
    second = RemoteFile(name="more.bin", url="", sha256="0")
    write(roots[0] / "my_set" / "data.bin")
    assert find_files("my_set", (FILE, second)) is None
    write(roots[1] / "my_set" / "more.bin")
    assert find_files("my_set", (FILE, second)) == roots[0] / "my_set"


def test_missing_file_is_one_error_that_names_it_and_every_place(roots: tuple[Path, Path]) -> None:
    with pytest.raises(DataError) as caught:
        obtain_file("my_set", FILE)
    message = caught.value.message
    assert "data.bin is not on this machine" in message
    assert "no connection" in message
    assert "\n" not in message
    for place in (roots[0] / "my_set", roots[0] / "my-set", roots[0], roots[1], cache_dir() / "my_set"):
        assert str(place / "data.bin") in message
    assert caught.value.hint is not None
    assert FILE.url in caught.value.hint
    assert "EDGEKIT_DATA" in caught.value.hint
    assert not list(cache_dir().rglob("*.bin"))
