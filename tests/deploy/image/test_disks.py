"""What the kernel says of disks, in trees that look like sysfs, and which of them may be overwritten."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgekit.core.errors import UsageError
from edgekit.deploy.image.disks import Disk, describe_disk, read_disk, refusal_hint, refusals

GIB = 1 << 30
CARD = Disk(path=Path("/dev/sdb"), name="sdb", size_bytes=32 * GIB, is_removable=True)


class Kernel:
    """A tree with sys/ and proc/."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/self/mountinfo", "")
        self.write("proc/swaps", "Filename Type Size Used Priority\n")

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def add(self, name: str, number: str, *, below: str = "", **words: str) -> Path:
        folder = self.root / "sys/devices" / below / name
        for word, text in {"dev": number, "size": "62333952", "removable": "0", "ro": "0", **words}.items():
            self.write(str((folder / word.replace("__", "/")).relative_to(self.root)), f"{text}\n")
        link = self.root / "sys/class/block" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder)
        return folder

    def mount(self, number: str, place: str, source: str = "none") -> None:
        path = self.root / "proc/self/mountinfo"
        path.write_text(path.read_text() + f"30 1 {number} / {place} rw shared:1 - ext4 {source} rw\n")

    def describe(self, name: str) -> Disk:
        return describe_disk(Path("/dev") / name, (self.root / "sys/class/block" / name).resolve(), self.root)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_card_reader_is_removable(kernel: Kernel) -> None:
    kernel.add("sdb", "8:16", removable="1", device__vendor="Generic ", device__model="SD Reader")
    disk = kernel.describe("sdb")
    assert (disk.is_removable, disk.size_bytes, disk.model) == (True, 62333952 * 512, "Generic SD Reader")
    assert refusals(disk, 4 * GIB) == ()


@pytest.mark.parametrize(("kind", "is_removable"), [("SD", True), ("MMC", False)])
def test_slot_on_the_board_holds_a_card_unless_it_is_emmc(kernel: Kernel, kind: str, *, is_removable: bool) -> None:
    kernel.add("mmcblk0", "179:0", device__type=kind)
    assert kernel.describe("mmcblk0").is_removable is is_removable


def test_mounted_partition_counts_for_its_disk(kernel: Kernel) -> None:
    kernel.add("sdb", "8:16", removable="1")
    kernel.add("sdb1", "8:17", below="sdb", partition="1")
    kernel.mount("8:17", "/media/my\\040card")
    disk = kernel.describe("sdb")
    assert disk.mounts == ("/media/my card",)
    assert not disk.is_system
    assert refusals(disk, GIB) == ("/dev/sdb is mounted at /media/my card",)


def test_partition_itself_is_refused(kernel: Kernel) -> None:
    kernel.add("sdb", "8:16", removable="1")
    kernel.add("sdb1", "8:17", below="sdb", partition="1", removable="1")
    assert "a partition" in refusals(kernel.describe("sdb1"), GIB)[0]


def test_root_on_encrypted_partition_makes_a_system_disk(kernel: Kernel) -> None:
    kernel.add("sda", "8:0", removable="1")
    folder = kernel.add("sda2", "8:2", below="sda", partition="2")
    (folder / "holders/dm-0").mkdir(parents=True)
    kernel.add("dm-0", "253:0")
    kernel.mount("253:0", "/")
    disk = kernel.describe("sda")
    assert disk.is_system
    assert disk.users == ("dm-0",)
    assert "this machine runs from /dev/sda (/)" in refusals(disk, GIB)[0]


def test_swap_makes_a_system_disk(kernel: Kernel) -> None:
    kernel.add("sda", "8:0", removable="1")
    kernel.add("sda3", "8:3", below="sda", partition="3")
    kernel.write("proc/swaps", "Filename Type Size Used Priority\n/dev/sda3 partition 1 0 -2\n")
    assert kernel.describe("sda").is_system


def test_btrfs_root_is_found_by_its_source(kernel: Kernel) -> None:
    kernel.add("sda", "8:0", removable="1")
    kernel.add("sda1", "8:1", below="sda", partition="1")
    kernel.mount("0:25", "/", "/dev/sda1")
    assert kernel.describe("sda").is_system


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size_bytes": GIB - 1}, "holds 1,073,741,823 bytes, the image has 1,073,741,824"),
        ({"is_read_only": True}, "read-only"),
        ({"is_removable": False}, "no card or stick"),
        ({"mounts": ("/mnt",)}, "mounted at /mnt"),
        ({"mounts": ("/boot",)}, "runs from"),
        ({"users": ("md0",)}, "in use by md0"),
        ({"is_partition": True}, "partition"),
        ({"name": ""}, "no block device"),
    ],
)
def test_disk_is_refused(change: dict[str, object], words: str) -> None:
    disk = msgspec.structs.replace(CARD, **change)
    reasons = refusals(disk, GIB)
    assert len(reasons) == 1
    assert words in reasons[0]
    assert refusal_hint(disk, reasons)


def test_only_removability_can_be_forced() -> None:
    fixed = msgspec.structs.replace(CARD, is_removable=False)
    assert refusals(fixed, GIB, is_forced=True) == ()
    assert refusals(msgspec.structs.replace(fixed, mounts=("/",)), GIB, is_forced=True)
    assert refusals(msgspec.structs.replace(fixed, size_bytes=1), GIB, is_forced=True)


def test_file_is_no_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert read_disk(tmp_path / "file").name == ""
    with pytest.raises(UsageError, match="cannot find"):
        read_disk(tmp_path / "none")


def test_disk_that_this_machine_runs_from_is_told() -> None:
    numbers = [line.split()[2] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    folder = next((Path("/sys/dev/block") / one for one in numbers if (Path("/sys/dev/block") / one).exists()), None)
    if folder is None:
        pytest.skip("nothing is mounted from a block device here")
    assert describe_disk(Path("/dev") / folder.resolve().name, folder.resolve(), Path("/")).mounts
