"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgekit.core.errors import OutputError
from edgekit.core.storage import staged_folder, write_bytes, write_text


class StopError(Exception):
    """What ends a run midway."""


def fill(folder: Path, mark: str) -> None:
    for name in ("a", "last"):
        write_text(folder / name, mark)


def fill_and_fail(target: Path) -> None:
    with staged_folder(target, last="last") as staging:
        fill(staging, "new")
        raise StopError


def test_new_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run"

    with staged_folder(target, last="last") as staging:
        fill(staging, "new")
        assert not target.exists()

    assert {path.name: path.read_text() for path in target.iterdir()} == {"a": "new", "last": "new"}
    assert [path.name for path in target.parent.iterdir()] == ["run"]


def test_failure_takes_the_made_parents_along(tmp_path: Path) -> None:
    with pytest.raises(StopError):
        fill_and_fail(tmp_path / "x" / "y" / "run")

    assert list(tmp_path.iterdir()) == []


def test_failure_leaves_an_existing_folder_as_it_was(tmp_path: Path) -> None:
    fill(tmp_path, "old")

    with pytest.raises(StopError):
        fill_and_fail(tmp_path)

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "last": "old"}


def test_existing_folder_keeps_other_files(tmp_path: Path) -> None:
    fill(tmp_path, "old")
    write_text(tmp_path / "mine", "mine")

    with staged_folder(tmp_path, last="last") as staging:
        fill(staging, "new")

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "last": "new", "mine": "mine"}


def test_failure_while_publishing_leaves_no_last_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "old")

    def fail(_self: Path, _target: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def fill_and_break() -> None:
        with staged_folder(tmp_path, last="last") as staging:
            fill(staging, "new")
            monkeypatch.setattr(Path, "replace", fail)

    with pytest.raises(OutputError, match="Input/output error"):
        fill_and_break()

    # Whoever looks for the last file sees that the folder is not complete.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


@pytest.mark.parametrize("below", ["", "run"])
def test_file_in_the_way_is_an_error_before_any_work(tmp_path: Path, below: str) -> None:
    write_text(tmp_path / "file", "mine")

    with pytest.raises(OutputError, match="cannot write"), staged_folder(tmp_path / "file" / below, last="last"):
        pytest.fail("worked for nothing")

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_full_disk_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_bytes(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(OutputError, match="No space left on device"):
        write_bytes(tmp_path / "file", b"new")

    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_written_files_get_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "file", b"")
        with staged_folder(tmp_path / "run", last="last"):
            pass
    finally:
        os.umask(before)

    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o750
