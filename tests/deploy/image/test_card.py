"""Cards written: to files that stand for disks, and to a loop device where there may be one."""

from __future__ import annotations

import errno
import lzma
import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest

from card_images import MIB, assert_whole
from edgekit.core.errors import IntegrityError, OutputError, UsageError
from edgekit.core.progress import Silent
from edgekit.deploy.image import card as writing
from edgekit.deploy.image.block_map import GRAIN_BYTES, map_blocks
from edgekit.deploy.image.card import CardPlan, CardRequest, write_card
from edgekit.deploy.image.disks import Disk

OLD = bytes(range(1, 252))


def _stick(path: Path, **change: object) -> Disk:
    disk = Disk(path=path, name="sdz", size_bytes=path.stat().st_size, is_removable=True, model="Stick")
    return msgspec.structs.replace(disk, **change)


def _yes(plan: CardPlan) -> bool:
    return plan.used_bytes > 0


@pytest.fixture
def device(card: Path, tmp_path: Path) -> Path:
    """A used card that is a little larger than the image."""
    path = tmp_path / "device"
    size = card.stat().st_size + 3 * MIB
    path.write_bytes((OLD * (size // len(OLD) + 1))[:size])
    return path


@pytest.fixture
def request_for(card: Path, device: Path, tmp_path: Path) -> CardRequest:
    return CardRequest(image_path=card, device_path=device, scratch_dir=tmp_path)


def test_used_card_holds_the_image_afterwards(request_for: CardRequest, device: Path, tmp_path: Path) -> None:
    old = device.read_bytes()
    report = write_card(request_for, Silent(), confirm=_yes, look_at=_stick)
    assert report is not None
    content, image = device.read_bytes(), request_for.image_path.read_bytes()
    blocks = map_blocks(request_for.image_path)
    for start, end in blocks.ranges:
        assert content[start:end] == image[start:end]
    assert content[len(image) :] == old[len(image) :]
    assert report.plan.used_bytes == blocks.num_bytes < len(image) / 2
    assert_whole(device, tmp_path)


def test_packed_image_is_written(request_for: CardRequest, device: Path, tmp_path: Path) -> None:
    packed = tmp_path / "card.xz"
    packed.write_bytes(lzma.compress(request_for.image_path.read_bytes(), preset=0))
    request = msgspec.structs.replace(request_for, image_path=packed)
    assert write_card(request, Silent(), confirm=_yes, look_at=_stick) is not None
    assert_whole(device, tmp_path)


def _assert_untouched(request: CardRequest, words: str, **change: object) -> None:
    before = request.device_path.read_bytes()
    with pytest.raises(UsageError, match=words):
        write_card(request, Silent(), confirm=_yes, look_at=lambda path: _stick(path, **change))
    assert request.device_path.read_bytes() == before


def test_mounted_card_is_left_alone(request_for: CardRequest) -> None:
    _assert_untouched(request_for, "mounted at /media/card", mounts=("/media/card",))


def test_system_disk_is_left_alone(request_for: CardRequest) -> None:
    request = msgspec.structs.replace(request_for, force=request_for.device_path)
    _assert_untouched(request, "this machine runs from", mounts=("/",))


def test_card_smaller_than_the_image_is_left_alone(request_for: CardRequest) -> None:
    _assert_untouched(request_for, "the image has", size_bytes=10 * MIB)


def test_fixed_disk_is_left_alone_unless_named(request_for: CardRequest) -> None:
    def fixed(path: Path) -> Disk:
        return _stick(path, is_removable=False)

    _assert_untouched(request_for, "no card or stick", is_removable=False)
    other = msgspec.structs.replace(request_for, force=Path("/dev/other"))
    _assert_untouched(other, "no card or stick", is_removable=False)
    named = msgspec.structs.replace(request_for, force=request_for.device_path)
    assert write_card(named, Silent(), confirm=_yes, look_at=fixed) is not None


def test_plain_file_is_refused(request_for: CardRequest) -> None:
    before = request_for.device_path.read_bytes()
    with pytest.raises(UsageError, match="no block device"):
        write_card(request_for, Silent(), confirm=_yes)
    assert request_for.device_path.read_bytes() == before


def test_nothing_is_written_when_it_is_not_confirmed(request_for: CardRequest, device: Path) -> None:
    before = device.read_bytes()
    assert write_card(request_for, Silent(), confirm=lambda _: False, look_at=_stick) is None
    assert device.read_bytes() == before


def test_card_that_is_mounted_while_the_user_thinks_is_left_alone(request_for: CardRequest, device: Path) -> None:
    before, looks = device.read_bytes(), iter([(), ("/media/card",)])
    with pytest.raises(UsageError, match="another disk"):
        write_card(request_for, Silent(), confirm=_yes, look_at=lambda path: _stick(path, mounts=next(looks)))
    assert device.read_bytes() == before


def test_image_that_is_none_is_refused(request_for: CardRequest, tmp_path: Path) -> None:
    (tmp_path / "noise.img").write_bytes(OLD * 1000)
    request = msgspec.structs.replace(request_for, image_path=tmp_path / "noise.img")
    with pytest.raises(IntegrityError, match="no partition table"):
        write_card(request, Silent(), confirm=_yes, look_at=_stick)


def test_card_that_forgets_is_found(request_for: CardRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def forgetful(device: int, content: memoryview, at: int) -> int:
        if at >= 4 * MIB and len(content) > 100:
            changed = bytearray(content)
            changed[77] ^= 1
            return real(device, changed, at)
        return real(device, content, at)

    monkeypatch.setattr(writing.os, "pwrite", forgetful)
    with pytest.raises(OutputError, match=r"gives back other bytes than it was given, first at byte [\d,]+77"):
        write_card(request_for, Silent(), confirm=_yes, look_at=_stick)


def test_write_error_is_told(request_for: CardRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(writing.os, "pwrite", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write_card(request_for, Silent(), confirm=_yes, look_at=_stick)


def test_interrupted_card_has_no_partition_table(
    request_for: CardRequest, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, places = os.pwrite, []

    def interrupted(descriptor: int, content: memoryview, at: int) -> int:
        places.append(at)
        if len(places) == 4:
            raise KeyboardInterrupt
        return real(descriptor, content, at)

    monkeypatch.setattr(writing.os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_card(request_for, Silent(), confirm=_yes, look_at=_stick)
    assert device.read_bytes()[:GRAIN_BYTES] == bytes(GRAIN_BYTES)


@pytest.fixture
def loop(device: Path) -> Generator[Path, None, None]:
    """A real block device; it goes with the test."""
    if os.geteuid() != 0:
        pytest.skip("needs root for a loop device")
    try:
        made = subprocess.run(
            ["losetup", "--find", "--show", device], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no loop device here: {error}")
    path = Path(made.stdout.strip())
    try:
        yield path
    finally:
        subprocess.run(["losetup", "--detach", path], check=True, timeout=30)


def test_loop_device_is_written_only_when_named(
    request_for: CardRequest, loop: Path, device: Path, tmp_path: Path
) -> None:
    request = msgspec.structs.replace(request_for, device_path=loop)
    with pytest.raises(UsageError, match="no card or stick"):
        write_card(request, Silent(), confirm=_yes)
    forced = msgspec.structs.replace(request, force=loop)
    report = write_card(forced, Silent(), confirm=_yes)
    assert report is not None
    assert report.plan.disk.size_bytes == device.stat().st_size // 512 * 512
    assert_whole(device, tmp_path)
