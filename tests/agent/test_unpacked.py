"""The unpacked model on disk: kept, checked, replaced, tidied up, and in memory where there is no disk."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import msgspec
import pytest

from bundles import with_manifest
from edgekit.agent import facts, unpacked
from edgekit.agent.model import ModelSettings, load_model
from edgekit.agent.unpacked import unpacked_model
from edgekit.bundle.compatibility import DeviceFacts
from edgekit.bundle.reading import Bundle, open_bundle, write_bundle
from edgekit.core.errors import OutputError, UsageError

HOST = DeviceFacts(board="host_cpu")


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


def unpack(bundle: Bundle, folder: Path) -> Path:
    """Unpack, and say where it lay."""
    with unpacked_model(bundle, folder, lambda: None) as path:
        assert path.stat().st_size == bundle.manifest.model.size_bytes
        return path


def test_model_is_the_file_that_was_packed(bundle: Bundle, tiny_run: Path, tmp_path: Path) -> None:
    path = unpack(bundle, tmp_path)

    assert path.parent == tmp_path
    assert path.read_bytes() == (tiny_run / "model.tflite").read_bytes()
    assert f"-4-{bundle.manifest.model.sha256[:16]}.tflite" in path.name


@pytest.mark.parametrize("damage", [b"", b"\0" * 4096, None])
def test_damaged_file_is_unpacked_again(bundle: Bundle, tmp_path: Path, damage: bytes | None) -> None:
    path = unpack(bundle, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage if damage is not None else whole + b"\0")

    unpack(bundle, tmp_path)
    assert path.read_bytes() == whole


def test_oldest_models_and_leftovers_go(bundle: Bundle, tmp_path: Path) -> None:
    for number in range(5):
        old = tmp_path / f"pets-{number}-0123456789abcdef.tflite"
        old.write_bytes(b"x")
        os.utime(old, (1000 + number, 1000 + number))
    (tmp_path / ".edgekit-unpacking-dead").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")

    path = unpack(bundle, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        path.name, "pets-4-0123456789abcdef.tflite", "pets-3-0123456789abcdef.tflite", "notes.txt",
    }  # fmt: skip


def test_nothing_half_written_stays_when_the_packed_file_is_damaged(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(tiny_bundle)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(unpacked, "unpack", interrupted)
    with pytest.raises(KeyboardInterrupt), unpacked_model(bundle, tmp_path / "models", lambda: None):
        pytest.fail("unpacked")
    assert list((tmp_path / "models").iterdir()) == []


def test_model_is_served_from_memory_when_nothing_can_be_written(
    tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")

    model = load_model(tiny_bundle, ModelSettings(), blocked, facts=HOST)
    assert model.status.num_golden == 8
    assert "it stays in memory" in caplog.text


def test_model_is_served_when_the_disk_is_full_and_memory_is_not(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_usage = shutil.disk_usage

    def full(place: Path) -> object:
        usage = disk_usage(place)
        return usage if place == facts.SHARED_MEMORY else usage._replace(free=0)

    monkeypatch.setattr(facts, "free_memory_mib", lambda: None)
    monkeypatch.setattr(shutil, "disk_usage", full)
    assert load_model(tiny_bundle, ModelSettings(), tmp_path / "state").status.num_golden == 8

    monkeypatch.setattr(facts, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: disk_usage(place)._replace(free=0))
    with pytest.raises(UsageError, match="MiB of disk"):
        load_model(tiny_bundle, ModelSettings(), tmp_path / "state")


def test_place_in_memory_is_given_back(bundle: Bundle, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")

    with unpacked_model(bundle, blocked, lambda: None) as path:
        assert path.is_file()
    assert not path.parent.exists()


def test_full_disk_everywhere_is_an_output_error(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpacked, "unpack", full)
    with (
        pytest.raises(OutputError, match="No space left on device"),
        unpacked_model(bundle, tmp_path / "models", lambda: None),
    ):
        pytest.fail("unpacked")
    assert list((tmp_path / "models").iterdir()) == []


def test_releases_lie_beside_each_other(tiny_bundle: Path, bundle: Bundle, tmp_path: Path) -> None:
    with zipfile.ZipFile(tiny_bundle) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    newer = with_manifest(contents, lambda manifest: msgspec.structs.replace(manifest, release=5))
    write_bundle(tmp_path / "newer.ekb", newer)

    paths = {unpack(bundle, tmp_path / "models"), unpack(open_bundle(tmp_path / "newer.ekb"), tmp_path / "models")}
    assert {path.name.split("-")[-2] for path in paths} == {"4", "5"}
    assert all(path.is_file() for path in paths)
