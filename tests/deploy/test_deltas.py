"""A delta is the smallest way from one release to the next, proved before it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.agent.install.patching import full_bundle
from edgekit.bundle.delta import apply_delta
from edgekit.bundle.reading import open_bundle
from edgekit.core.errors import MissingDependencyError, UsageError
from edgekit.deploy import deltas
from edgekit.deploy.bundling import BundleRequest, make_bundle
from edgekit.deploy.deltas import make_delta
from edgekit.encode.codec import EkzCodec
from install_bundles import write_tiny_bundle
from installs import REQUEST, installer


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two releases of one model: the same weights, another counter and name of the maker."""
    folder = tmp_path_factory.mktemp("pair")
    first = write_tiny_bundle(folder, 1)
    second = folder / "second.ekb"
    make_bundle(BundleRequest(run_dir=folder / "run-1-16", boards=("host_cpu",), release=2, name="tiny"), second)
    return first, second


def test_delta_makes_the_very_bundle(pair: tuple[Path, Path], tmp_path: Path) -> None:
    report = make_delta(*pair, tmp_path / "x.ekd")
    delta = tmp_path / "x.ekd"
    assert report.path == delta
    assert report.delta_bytes == delta.stat().st_size < report.full_bytes
    assert report.methods["model.ekz"] == "same"
    made = apply_delta(delta, open_bundle(pair[0]), tmp_path / "made.ekb", EkzCodec())
    assert made.path.read_bytes() == pair[1].read_bytes()


def test_same_request_makes_the_same_delta(pair: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("a.ekd", "b.ekd"):
        make_delta(*pair, tmp_path / name)
    assert (tmp_path / "a.ekd").read_bytes() == (tmp_path / "b.ekd").read_bytes()


def test_delta_that_saves_nothing_is_not_written(tmp_path: Path) -> None:
    first, second = (write_tiny_bundle(tmp_path, release) for release in (1, 2))
    report = make_delta(first, second, tmp_path / "x.ekd")
    assert (report.path is None) == (report.delta_bytes >= report.full_bytes)
    assert (tmp_path / "x.ekd").exists() == (report.path is not None)


def test_delta_is_never_larger_than_the_full_file(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deltas, "smallest_part", lambda name, *_: deltas._part(name, "full", (b"\xff" * 5000,)))
    monkeypatch.setattr(deltas, "_compress", lambda content: ("raw", content))
    report = make_delta(*pair, tmp_path / "x.ekd")
    assert report.path is None
    assert not (tmp_path / "x.ekd").exists()


def test_missing_bsdiff_is_told_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    first, second = (write_tiny_bundle(tmp_path, release) for release in (1, 2))
    monkeypatch.setitem(sys.modules, "bsdiff4", None)
    with pytest.raises(MissingDependencyError) as caught:
        make_delta(first, second, tmp_path / "x.ekd")
    assert caught.value.hint == "pip install edgekit[flash]"


def test_board_installs_a_delta_to_what_serves(pair: tuple[Path, Path], tmp_path: Path) -> None:
    state = tmp_path / "state"
    report = make_delta(*pair, tmp_path / "x.ekd")
    assert report.path is not None
    state.mkdir()
    with pytest.raises(UsageError, match="no release is installed"), full_bundle(report.path, state):
        pass
    assert installer(state).install(pair[0], REQUEST).result == "committed"
    with full_bundle(report.path, state) as path:
        assert installer(state).install(path, REQUEST).serving == open_bundle(pair[1]).digest
    assert not path.exists()
    with full_bundle(pair[0], state) as path:
        assert path == pair[0]
