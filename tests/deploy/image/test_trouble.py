"""What cannot become an image: a clear error, and nothing half-written."""

from __future__ import annotations

import lzma
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from card_images import MIB, ROOT_START, CardSpec, make_card, partition, root_of, run_tool, write_bundle_for
from edgekit.core.errors import DataError, EdgekitError, IntegrityError, MissingDependencyError, OutputError, UsageError
from edgekit.core.progress import Silent
from edgekit.deploy.image import applying, making, programs
from edgekit.deploy.image.first_boot import FirstBoot, make_wifi
from edgekit.deploy.image.making import ImageRequest, make_image


@pytest.fixture
def request_for(card: Path, bundle_path: Path, tmp_path: Path) -> ImageRequest:
    (tmp_path / "out").mkdir()
    return ImageRequest(image_path=card, model_path=bundle_path, out=tmp_path / "out" / "out.img")


def _assert_refused(request: ImageRequest, kind: type[EdgekitError], words: str) -> None:
    with pytest.raises(kind, match=words):
        make_image(request, Silent())
    assert list(request.out.parent.iterdir()) == []


def _changed(card: Path, folder: Path, change: Callable[[Path], object]) -> Path:
    copy = folder / "changed.img"
    shutil.copy(card, copy)
    change(copy)
    return copy


def test_image_with_another_layout_is_refused(request_for: ImageRequest, card: Path, tmp_path: Path) -> None:
    other = _changed(card, tmp_path, lambda path: partition(path, "label: gpt\nsize=20M\nsize=20M\n"))
    _assert_refused(msgspec.structs.replace(request_for, image_path=other), IntegrityError, "GPT")


def test_truncated_image_is_refused(request_for: ImageRequest, card: Path, tmp_path: Path) -> None:
    short = _changed(card, tmp_path, lambda path: os.truncate(path, card.stat().st_size - MIB))
    _assert_refused(msgspec.structs.replace(request_for, image_path=short), IntegrityError, "truncated")


def test_image_without_root_file_system_is_refused(request_for: ImageRequest, card: Path, tmp_path: Path) -> None:
    def wipe(path: Path) -> None:
        with path.open("r+b") as stream:
            stream.seek(ROOT_START)
            stream.write(bytes(MIB))

    wiped = _changed(card, tmp_path, wipe)
    _assert_refused(msgspec.structs.replace(request_for, image_path=wiped), IntegrityError, "no ext4")


def test_damaged_root_file_system_is_refused(request_for: ImageRequest, card: Path, tmp_path: Path) -> None:
    def damage(path: Path) -> None:
        run_tool("debugfs", "-w", "-R", "sif /etc links_count 77", root_of(path))

    damaged = _changed(card, tmp_path, damage)
    _assert_refused(msgspec.structs.replace(request_for, image_path=damaged), IntegrityError, "e2fsck")


@pytest.mark.parametrize(
    ("spec", "kind", "words"),
    [
        (CardSpec(architecture="armhf"), UsageError, "armv7l"),
        (CardSpec(version="11", packages={"python3": "3.9.2-3"}), UsageError, "Python 3.9"),
        (CardSpec(packages={}), IntegrityError, "no Python"),
        (CardSpec(command_line=None), IntegrityError, "cmdline.txt"),
        (CardSpec(command_line="quiet systemd.run=/boot/firstrun.sh"), UsageError, "customised already"),
        (CardSpec(folders=("etc/edgekit/agent.toml",)), IntegrityError, "is a folder"),
    ],
    ids=["32bit", "old", "no_python", "no_command_line", "customised", "folder_in_the_way"],
)
def test_other_system_is_refused(
    request_for: ImageRequest, tmp_path: Path, spec: CardSpec, kind: type[EdgekitError], words: str
) -> None:
    other = make_card(tmp_path / "other", spec)
    _assert_refused(msgspec.structs.replace(request_for, image_path=other), kind, words)


def test_full_root_is_refused_with_numbers_when_it_may_not_grow(request_for: ImageRequest, tmp_path: Path) -> None:
    full = make_card(tmp_path / "full", CardSpec(root_bytes=40 * MIB, fill_bytes=30 * MIB))
    request = msgspec.structs.replace(request_for, image_path=full, may_grow=False)
    _assert_refused(request, UsageError, r"no space in the root file system: [\d,]+ bytes and .* are free")


def test_full_disk_is_refused_with_numbers(request_for: ImageRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(making.shutil, "disk_usage", lambda _: usage)
    _assert_refused(request_for, OutputError, "1,000 bytes free")


def test_bundle_for_other_boards_is_refused(request_for: ImageRequest, tmp_path: Path) -> None:
    other = write_bundle_for(tmp_path / "other.ekb", ("jetson_nano",))
    _assert_refused(msgspec.structs.replace(request_for, model_path=other), UsageError, "it is for jetson_nano")


def test_board_that_the_image_is_not_for_is_refused(request_for: ImageRequest) -> None:
    _assert_refused(msgspec.structs.replace(request_for, boards=("jetson_nano",)), UsageError, "not for jetson_nano")


def test_missing_image_and_bundle_are_told(request_for: ImageRequest, tmp_path: Path) -> None:
    _assert_refused(msgspec.structs.replace(request_for, image_path=tmp_path / "none.img"), UsageError, "none.img")
    _assert_refused(msgspec.structs.replace(request_for, model_path=tmp_path / "none.ekb"), UsageError, "none.ekb")


def test_image_is_never_its_own_output(request_for: ImageRequest, card: Path, tmp_path: Path) -> None:
    same = _changed(card, tmp_path, lambda path: path)
    with pytest.raises(UsageError, match="is the image itself"):
        make_image(msgspec.structs.replace(request_for, image_path=same, out=same), Silent())


@pytest.mark.parametrize("name", sorted(programs.PACKAGES))
def test_missing_program_names_its_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs.shutil, "which", lambda asked, **_: None if asked == name else f"/bin/{asked}")
    with pytest.raises(MissingDependencyError, match=rf"{name} \(Debian: {programs.PACKAGES[name]}\)") as caught:
        programs.find_programs(sorted(programs.PACKAGES))
    assert caught.value.hint == f"apt-get install {programs.PACKAGES[name]}"


def test_missing_programs_are_told_before_anything_is_read(
    request_for: ImageRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs.shutil, "which", lambda _, **__: None)
    _assert_refused(request_for, MissingDependencyError, "e2fsprogs, mtools")


def test_interrupted_run_leaves_nothing(request_for: ImageRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(applying, "write_boot_file", interrupt)
    first_boot = FirstBoot(wifi=make_wifi("home", None))
    with pytest.raises(KeyboardInterrupt):
        make_image(msgspec.structs.replace(request_for, first_boot=first_boot), Silent())
    assert list(request_for.out.parent.iterdir()) == []


def test_failed_run_keeps_the_image_that_was_there(request_for: ImageRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    request_for.out.write_bytes(b"yesterday's")
    monkeypatch.setattr(applying.RootFiles, "check", lambda _: ["Inode 12 is odd"])
    with pytest.raises(IntegrityError, match="Inode 12 is odd"):
        make_image(request_for, Silent())
    assert request_for.out.read_bytes() == b"yesterday's"
    assert [one.name for one in request_for.out.parent.iterdir()] == ["out.img"]


def test_command_that_debugfs_refuses_is_an_error(request_for: ImageRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "_commands", lambda _, source: [f"write {source} /no/such/folder"])
    _assert_refused(request_for, DataError, "debugfs: ")


def test_damaged_archive_is_refused(request_for: ImageRequest, card: Path, tmp_path: Path) -> None:
    packed = tmp_path / "card.img.xz"
    packed.write_bytes(lzma.compress(card.read_bytes()[: 8 * MIB], preset=0)[:-20])
    _assert_refused(msgspec.structs.replace(request_for, image_path=packed), IntegrityError, "damaged archive")


def test_archive_with_two_images_is_refused(request_for: ImageRequest, tmp_path: Path) -> None:
    packed = tmp_path / "card.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.img", "a")
        archive.writestr("b.img", "b")
    _assert_refused(msgspec.structs.replace(request_for, image_path=packed), IntegrityError, "2 images")


def test_wheels_that_are_not_enough_are_refused(request_for: ImageRequest, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in ("ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64", "numpy-2.2.0-cp311-cp311-linux_x86_64"):
        (wheels / f"{name}.whl").write_bytes(b"")
    _assert_refused(msgspec.structs.replace(request_for, wheels_dir=wheels), UsageError, r"none for .* numpy,")
    (wheels / "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64.whl").unlink()
    _assert_refused(msgspec.structs.replace(request_for, wheels_dir=wheels), UsageError, "needs litert 2.0 or onnx")
