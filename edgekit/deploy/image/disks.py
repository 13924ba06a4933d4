"""What a disk is, as the kernel tells it, and whether it may be overwritten: facts first, then pure rules."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import msgspec

from edgekit.core.errors import UsageError

_SYSTEM_MOUNTS = frozenset({"/", "/boot", "/boot/efi", "/boot/firmware", "/usr", "/var", "/home"})
_SECTOR = 512
"""Of sysfs, whatever the disk's own is."""


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk, or what was named as one.

    Args:
        path: As it was named.
        name: The kernel's: "sdb"; "" for what is no block device.
        size_bytes: Its size.
        model: For people; "" where it tells none.
        is_removable: A card or a stick: the kernel says that its medium can be taken out, or that it is an SD card.
        is_partition: A part of a disk.
        is_read_only: Locked.
        mounts: Where it, its partitions and what is built on them are mounted; "swap" for swap space.
        users: Other devices that are built on it: encrypted, RAID, LVM.
    """

    path: Path
    name: str = ""
    size_bytes: int = 0
    model: str = ""
    is_removable: bool = False
    is_partition: bool = False
    is_read_only: bool = False
    mounts: tuple[str, ...] = ()
    users: tuple[str, ...] = ()

    @property
    def is_system(self) -> bool:
        """Whether this machine runs from it."""
        return any(mount in _SYSTEM_MOUNTS or mount == "swap" for mount in self.mounts)


def read_disk(path: Path, root: Path = Path("/")) -> Disk:
    """Look at a disk.

    Args:
        path: Of the device: /dev/sdX, or a link to it.
        root: Where sys/ and proc/ are; another one in tests.

    Raises:
        UsageError: Nothing there.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"cannot find {path}: {error.strerror or error}", hint="lsblk shows the disks") from error
    if not stat.S_ISBLK(status.st_mode):
        return Disk(path=path)
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return describe_disk(path, (root / "sys/dev/block" / number).resolve(), root)


def describe_disk(path: Path, folder: Path, root: Path) -> Disk:
    """What sysfs says of a block device.

    Args:
        path: Of the device.
        folder: Of it in sysfs.
        root: Where sys/ and proc/ are.
    """
    numbers = {_word(one / "dev"): one for one in (folder, *_partitions(folder), *_built_on(folder, root))}
    mounts = [place for number, place in _mounts(root) if number in numbers]
    mounts += ["swap" for name in _swaps(root) if name in {one.name for one in numbers.values()}]
    kind = _word(folder / "device/type")
    return Disk(
        path=path,
        name=folder.name,
        size_bytes=int(_word(folder / "size") or 0) * _SECTOR,
        model=" ".join(filter(None, (_word(folder / "device" / word) for word in ("vendor", "model", "name")))),
        # A card slot on the board's own controller says 0 for "removable", but what is in it says "SD" (eMMC: "MMC").
        is_removable=_word(folder / "removable") == "1" or kind == "SD",
        is_partition=(folder / "partition").is_file(),
        is_read_only=_word(folder / "ro") == "1",
        mounts=tuple(dict.fromkeys(mounts)),
        users=tuple(sorted(one.name for one in _built_on(folder, root))),
    )


def refusals(disk: Disk, size_bytes: int, *, is_forced: bool = False) -> tuple[str, ...]:
    """Why a disk must not be overwritten with an image; none: it may.

    Args:
        disk: As it was found.
        size_bytes: Of the image.
        is_forced: The user named this very disk as one that need not be removable. Nothing else can be forced.
    """
    if not disk.name:
        return (f"{disk.path} is no block device",)
    reasons: list[str] = []
    if disk.is_partition:
        reasons.append(f"{disk.path} is a partition; an image goes onto a whole disk")
    if disk.is_system:
        places = ", ".join(mount for mount in disk.mounts if mount in _SYSTEM_MOUNTS or mount == "swap")
        reasons.append(f"this machine runs from {disk.path} ({places})")
    elif disk.mounts:
        reasons.append(f"{disk.path} is mounted at {', '.join(disk.mounts)}")
    if disk.users:
        reasons.append(f"{disk.path} is in use by {', '.join(disk.users)}")
    if disk.is_read_only:
        reasons.append(f"{disk.path} is read-only: is the card locked?")
    if disk.size_bytes < size_bytes:
        reasons.append(f"{disk.path} holds {disk.size_bytes:,} bytes, the image has {size_bytes:,}")
    if not disk.is_removable and not is_forced:
        reasons.append(f"{disk.path} is no card or stick that can be taken out")
    return tuple(reasons)


def refusal_hint(disk: Disk, reasons: tuple[str, ...]) -> str:
    """What to do about refusals."""
    if disk.mounts and not disk.is_system:
        return f"umount {' '.join(disk.mounts)}"
    if len(reasons) == 1 and "taken out" in reasons[0]:
        return f"if it is the right disk all the same: --force {disk.path}"
    return "lsblk shows the disks, their sizes, and what is mounted"


def _partitions(folder: Path) -> list[Path]:
    return [one.parent for one in sorted(folder.glob("*/partition"))] if folder.is_dir() else []


def _built_on(folder: Path, root: Path) -> list[Path]:
    """Devices on top of a disk and its partitions, all the way up; sysfs calls them holders."""
    found: dict[str, Path] = {}
    below = [folder, *_partitions(folder)]
    while below:
        one = below.pop()
        for holder in sorted((one / "holders").iterdir()) if (one / "holders").is_dir() else ():
            if holder.name not in found:
                found[holder.name] = root / "sys/class/block" / holder.name
                below.append(found[holder.name])
    return list(found.values())


def _mounts(root: Path) -> list[tuple[str, str]]:
    """("major:minor", where) of each mounted file system (proc_pid_mountinfo(5), fields 3 and 5)."""
    lines = [line.split() for line in _text(root / "proc/self/mountinfo").splitlines()]
    # btrfs and overlays bear numbers of their own; the device that stands as the source counts, too.
    found = [(words[2], _unescaped(words[4])) for words in lines if len(words) > 4]
    for words in lines:
        source = words[words.index("-") + 2] if "-" in words and len(words) > words.index("-") + 2 else ""
        name = Path(source).name if source.startswith("/dev/") else ""
        number = _word(root / "sys/class/block" / name / "dev") if name else ""
        if number and (number, _unescaped(words[4])) not in found:
            found.append((number, _unescaped(words[4])))
    return found


def _swaps(root: Path) -> list[str]:
    """Names of the devices with swap space."""
    lines = _text(root / "proc/swaps").splitlines()[1:]
    return [Path(line.split()[0]).name for line in lines if line.startswith("/dev/")]


def _unescaped(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)


def _word(path: Path) -> str:
    return _text(path).strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
