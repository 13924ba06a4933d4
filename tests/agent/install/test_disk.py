"""Releases appear whole or not at all, and nothing is left of what was interrupted."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgekit.agent.install.disk import ReleaseStore
from edgekit.agent.install.machine import Links
from edgekit.bundle.check import NAMES
from edgekit.bundle.reading import open_bundle
from edgekit.core.errors import OutputError, UsageError
from installs import Releases


def test_release_lies_under_its_digest_with_every_file(state: Path, releases: Releases) -> None:
    folder = ReleaseStore(state).stage(open_bundle(releases.paths[0]))
    assert folder == state / "releases" / releases.digests[0]
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    assert open_bundle(folder).digest == releases.digests[0]


def test_damaged_release_is_not_whole_and_is_written_again(state: Path, releases: Releases) -> None:
    store = ReleaseStore(state)
    folder = store.stage(open_bundle(releases.paths[0]))
    (folder / "model.ekz").write_bytes(b"rot")
    assert not store.is_whole(releases.digests[0])
    store.stage(open_bundle(releases.paths[0]))
    assert store.is_whole(releases.digests[0])


def test_release_under_another_digest_is_not_whole(state: Path, releases: Releases) -> None:
    store = ReleaseStore(state)
    folder = store.stage(open_bundle(releases.paths[0]))
    folder.rename(store.folder(releases.digests[1]))
    assert not store.is_whole(releases.digests[1])
    assert not store.is_whole(None)


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_full_disk_leaves_nothing(state: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    store = ReleaseStore(state)

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OutputError, match="No space left"):
        store.stage(open_bundle(releases.paths[0]))
    assert list((state / "releases").iterdir()) == []


def test_links_point_where_they_should_and_can_be_taken_away(state: Path, releases: Releases) -> None:
    store = ReleaseStore(state)
    one, two, _ = releases.digests
    for links in (
        Links(current=one, previous=None),
        Links(current=two, previous=one),
        Links(current=two, previous=one),
        Links(current=one, previous=None),
        Links(current=None, previous=None),
    ):
        store.point(links)
        assert store.links() == links
    assert not (state / "current").is_symlink()


def test_something_else_in_a_links_place_is_not_overwritten(state: Path) -> None:
    (state / "current").mkdir()
    store = ReleaseStore(state)
    with pytest.raises(UsageError, match="current is no link"):
        store.links()
    with pytest.raises(UsageError, match="current is no link"):
        store.point(Links(current="ab" * 32, previous=None))
    assert (state / "current").is_dir()


@pytest.mark.parametrize("target", ["../../etc", "releases/../../etc", "releases/short", "/etc/passwd"])
def test_link_that_names_no_release_counts_as_none(state: Path, target: str) -> None:
    (state / "current").symlink_to(target)
    assert ReleaseStore(state).links().current is None


def test_cleaning_keeps_what_is_named_and_removes_the_rest(state: Path, releases: Releases, tmp_path: Path) -> None:
    store = ReleaseStore(state)
    for path in releases.paths:
        store.stage(open_bundle(path))
    precious = tmp_path / "precious"
    precious.write_bytes(b"not ours")
    (state / "releases" / ".new-0123").mkdir()
    (state / "releases" / "stray").symlink_to(precious)
    (state / ".current.new").symlink_to("releases/x")
    store.trial_dir.mkdir()
    (store.trial_dir / "model.tflite").write_bytes(b"x")

    assert store.clean(frozenset(releases.digests[:2])) == 5
    assert sorted(path.name for path in (state / "releases").iterdir()) == sorted(releases.digests[:2])
    assert precious.read_bytes() == b"not ours"
    assert sorted(path.name for path in state.iterdir()) == ["releases"]
    assert store.clean(frozenset(releases.digests[:2])) == 0
