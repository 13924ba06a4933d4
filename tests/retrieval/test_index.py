from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import OutputError, UsageError
from edgekit.retrieval.index import DamagedIndexError, Entry, FeatureIndex, default_index_path
from edgekit.retrieval.nearest import Vectors, to_unit

NOW_NS = 1_700_000_000_000_000_000
MODEL = b"m" * 32


def vector(seed: int) -> Vectors:
    return to_unit(np.random.default_rng(seed).standard_normal((1, 5)).astype(np.float32))[0]


def entry(path: str = "a.png", *, content: int = 0, mtime_ns: int = NOW_NS - 10**12, size: int = 7) -> Entry:
    return Entry(
        path=path,
        size=size,
        mtime_ns=mtime_ns,
        ctime_ns=mtime_ns,
        content=bytes([content]) * 32,
        vector=vector(content),
    )


def opened(path: Path | None, model: bytes = MODEL) -> FeatureIndex:
    return FeatureIndex(path, model, 5, clock=lambda: NOW_NS)


def test_vector_is_recalled_when_nothing_changed(tmp_path: Path) -> None:
    with opened(tmp_path / "index") as index:
        index.remember([entry()])
    with opened(tmp_path / "index") as index:
        for found in (index.recall(entry()), index.recall_content(entry().content)):
            assert found is not None
            np.testing.assert_array_equal(found, vector(0))


@pytest.mark.parametrize(
    "other",
    [entry(size=8), entry(mtime_ns=NOW_NS - 10**11), entry("b.png")],
    ids=["size", "time", "path"],
)
def test_file_is_read_again_when_it_is_not_the_same(tmp_path: Path, other: Entry) -> None:
    with opened(tmp_path / "index") as index:
        index.remember([entry()])
        assert index.recall(other) is None
        assert index.recall_content(other.content) is not None  # but its content is known


def test_nothing_is_recalled_for_another_model(tmp_path: Path) -> None:
    with opened(tmp_path / "index") as index:
        index.remember([entry()])
    with opened(tmp_path / "index", b"n" * 32) as index:
        assert index.recall(entry()) is None
        assert index.recall_content(entry().content) is None
    with opened(tmp_path / "index") as index:
        assert index.recall(entry()) is not None  # the first model's is still there


def test_file_changed_a_moment_ago_is_not_trusted_by_its_time(tmp_path: Path) -> None:
    young = entry(mtime_ns=NOW_NS - 1_000_000_000)
    with opened(tmp_path / "index") as index:
        index.remember([young])
        assert index.recall(young) is None
        assert index.recall_content(young.content) is not None


def test_vector_that_was_damaged_is_not_recalled(tmp_path: Path) -> None:
    path = tmp_path / "index"
    with opened(path) as index:
        index.remember([entry()])
    connection = sqlite3.connect(path)
    connection.execute("UPDATE vectors SET vector = zeroblob(20)")
    connection.commit()
    connection.close()
    with opened(path) as index:
        assert index.recall(entry()) is None
        assert index.recall_content(entry().content) is None


def test_path_that_is_no_unicode_is_kept(tmp_path: Path) -> None:
    path = os.fsdecode(b"caf\xe9.png")
    with opened(tmp_path / "index") as index:
        index.remember([entry(path)])
        assert index.recall(entry(path)) is not None


def test_default_place_is_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_index_path() == tmp_path / "edgekit" / "search.sqlite3"
    with opened(None) as index:
        index.remember([entry()])
        assert index.path == tmp_path / "edgekit" / "search.sqlite3"
        assert (tmp_path / "edgekit" / "search.sqlite3").is_file()


def test_index_is_kept_in_memory_when_the_cache_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with opened(None) as index:
        index.remember([entry()])
        assert index.recall(entry()) is not None
        assert index.path is None


def test_index_is_kept_in_memory_when_there_is_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    with opened(None) as index:
        assert index.path is None


def test_named_index_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write the index"):
        opened(tmp_path / "file" / "index")
    with pytest.raises(OutputError, match="cannot use the index"):
        opened(tmp_path)


@pytest.mark.parametrize("content", [b"GIF89a, a holiday", b"x" * 5000])
def test_named_file_that_is_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "holiday.gif"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"holiday\.gif is no index of edgekit"):
        opened(path)
    assert path.read_bytes() == content


def test_named_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE accounts (name)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is no index of edgekit"):
        opened(path)
    assert path.read_bytes() == before


def test_index_of_another_version_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "index"
    with opened(path) as index:
        index.remember([entry()])
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()
    with opened(path) as index:
        assert index.recall(entry()) is None
        index.remember([entry()])
        assert index.recall(entry()) is not None


def test_default_index_is_made_anew_when_it_is_garbage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "edgekit" / "search.sqlite3"
    path.parent.mkdir()
    path.write_bytes(b"garbage" * 1000)
    with opened(None) as index:
        index.remember([entry()])
        assert index.recall(entry()) is not None


def test_damage_that_shows_later_is_told_and_made_good(tmp_path: Path) -> None:
    path = tmp_path / "index"
    with opened(path) as index:
        index.remember([entry(f"{number}.png", content=number) for number in range(200)])
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)  # the first page, with the tables' list, is whole
    path.write_bytes(content)
    with opened(path) as index:
        with pytest.raises(DamagedIndexError):
            index.recall_content(entry().content)
        index.rebuild()
        assert index.recall_content(entry().content) is None
        index.remember([entry()])
        assert index.recall(entry()) is not None


def test_index_in_use_is_waited_for_and_then_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.retrieval.index._PATIENCE_S", 0.05)
    with opened(tmp_path / "index") as index:
        other = sqlite3.connect(tmp_path / "index", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OutputError, match="locked"):
            index.remember([entry()])
        other.execute("ROLLBACK")
        other.close()
        index.remember([entry()])
        assert index.recall(entry()) is not None
