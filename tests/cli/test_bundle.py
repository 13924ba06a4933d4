"""`edgekit bundle`, and `edgekit inspect` of what it makes."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from command_line import Outcome, assert_fails, edgekit


@pytest.fixture
def run_dir(compressed: tuple[Path, Outcome], tmp_path: Path) -> Path:
    return Path(shutil.copytree(compressed[0], tmp_path / "run"))


def test_bundle_lands_in_the_run_and_inspect_says_the_same(run_dir: Path) -> None:
    made = edgekit("bundle", run_dir, "--for", "host_cpu", "--release", "7", "--p90-ms", "30", "--json")
    assert made.code == 0, made.err
    manifest = made.document["manifest"]

    assert made.document["path"] == str(run_dir / "bundle.ekb")
    assert (manifest["release"], manifest["budgets"]["p90_ms"]) == (7, 30.0)
    assert manifest["golden"]["origin"] == "test_pictures"
    assert manifest["baseline"] is not None
    assert edgekit("inspect", run_dir / "bundle.ekb", "--json").document == made.document
    with zipfile.ZipFile(run_dir / "bundle.ekb") as archive:
        assert json.loads(archive.read("manifest.json")) == manifest


def test_summary_names_what_a_reader_asks_for(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = edgekit("bundle", run_dir, "--for", "host_cpu", "--rss-mib", "180").out

    for words in ("release 1", "host_cpu (any processor)", "litert 2.0", "180 MiB resident", "test pictures", "digest"):
        assert words in out
    assert edgekit("inspect", run_dir / "bundle.ekb").out == out


def test_same_options_make_the_same_bytes(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for name in ("one.ekb", "two.ekb"):
        assert edgekit("bundle", run_dir, "--for", "host_cpu", "--out", tmp_path / name).code == 0
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    given = edgekit("bundle", run_dir, "--for", "host_cpu", "--out", tmp_path / "three.ekb", "--created", "1700000000")
    assert given.code == 0

    assert len({(tmp_path / name).read_bytes() for name in ("one.ekb", "two.ekb", "three.ekb")}) == 1
    assert edgekit("inspect", tmp_path / "one.ekb", "--json").document["manifest"]["created_unix_s"] == 1_700_000_000


def test_bad_input_is_one_line(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_fails(edgekit("bundle", tmp_path / "absent", "--for", "host_cpu"), 2, "is no run folder", "compress")
    assert_fails(edgekit("bundle", run_dir, "--for", "toaster"), 2, "unknown board 'toaster'", "host_cpu")
    assert_fails(edgekit("bundle", run_dir), 2, "--for")
    assert_fails(edgekit("bundle", run_dir, "--for", "host_cpu", "--name", "My Kitchen"), 2, "name is 'My Kitchen'")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert_fails(edgekit("bundle", run_dir, "--for", "host_cpu"), 2, "SOURCE_DATE_EPOCH is 'yesterday'")


def test_damaged_bundle_is_named_by_inspect(run_dir: Path) -> None:
    assert edgekit("bundle", run_dir, "--for", "host_cpu").code == 0
    path = run_dir / "bundle.ekb"
    content = bytearray(path.read_bytes())
    content[content.index(b"\x89EKZ") + 500] ^= 1
    path.write_bytes(content)

    assert_fails(edgekit("inspect", path), 2, "bundle.ekb: model.ekz has SHA-256", "get the bundle again")
    path.write_bytes(content[:100])
    assert_fails(edgekit("inspect", path), 2, "bundle.ekb: the bundle")
    assert_fails(edgekit("inspect", run_dir / "absent.ekb"), 2, "no bundle at")
