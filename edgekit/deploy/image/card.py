"""An image onto a card: what is in use is written, read back past every cache, and compared.

The first grain, with the partition table, is wiped first and written last: a card that was pulled out half-way has no
system on it that could start, neither the old one nor the new.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec

from edgekit.core.errors import EdgekitError, OutputError, UsageError
from edgekit.core.progress import Progress
from edgekit.deploy.image.block_map import GRAIN_BYTES, BlockMap, map_blocks
from edgekit.deploy.image.disks import Disk, read_disk, refusal_hint, refusals
from edgekit.deploy.image.source import opened_image

CHUNK_BYTES = 4 << 20
_SYNC_BYTES = 64 << 20
"""Between two syncs: the bar tells what is on the card, not what is in memory."""
_BLKFLSBUF, _BLKRRPART = 0x1261, 0x125F
"""ioctl_list(2): drop what is cached of a disk; read its partition table again."""

LookAt = Callable[[Path], Disk]
"""Tells what a disk is; `read_disk` is the real one."""


class CardRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to write where.

    Args:
        image_path: Image, plain or packed.
        device_path: Disk.
        force: Disk that need not be removable; it has to be the same one.
        scratch_dir: Where a packed image is unpacked.
    """

    image_path: Path
    device_path: Path
    force: Path | None = None
    scratch_dir: Path


class CardPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What will be written.

    Args:
        disk: Where to.
        image_bytes: Size of the image.
        used_bytes: Of it in use, which are written.
        num_ranges: Pieces that they lie in.
    """

    disk: Disk
    image_bytes: int
    used_bytes: int
    num_ranges: int


class CardReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was written.

    Args:
        plan: As it was planned.
        sha256: Of all written ranges, one after the other; the same of what was read back.
    """

    plan: CardPlan
    sha256: str


def write_card(
    request: CardRequest,
    progress: Progress,
    *,
    confirm: Callable[[CardPlan], bool],
    look_at: LookAt = read_disk,
) -> CardReport | None:
    """Write an image onto a card, and verify it.

    Args:
        request: What, and where.
        progress: Shows how far it is.
        confirm: Gets what will be overwritten; False ends it.
        look_at: Tells what the disk is.

    Returns:
        None when it was not confirmed.

    Raises:
        UsageError: The disk must not be overwritten, or holds less than the image. Nothing was written.
        IntegrityError: No card image.
        OutputError: The disk cannot be written, or gives back other bytes than it was given.
    """
    first = look_at(request.device_path)
    if not first.name:
        _check(first, 0, is_forced=False)
    with opened_image(request.image_path, request.scratch_dir, progress) as image_path:
        blocks = map_blocks(image_path)
        forced = request.force is not None and request.force == request.device_path
        _check(first, blocks.size_bytes, is_forced=forced)
        plan = CardPlan(
            disk=first,
            image_bytes=blocks.size_bytes,
            used_bytes=blocks.num_bytes,
            num_ranges=len(blocks.ranges),
        )
        if not confirm(plan):
            return None
        now = look_at(request.device_path)  # while the user thought, the card may have been changed or mounted
        if now != first:
            raise UsageError(f"{request.device_path} is another disk than it was, or is mounted now", hint="try again")
        digest = copy_to_disk(image_path, blocks, request.device_path, progress)
    return CardReport(plan=plan, sha256=digest)


def copy_to_disk(image_path: Path, blocks: BlockMap, device_path: Path, progress: Progress) -> str:
    """Write the mapped ranges of an image, and compare what can be read back.

    Args:
        image_path: Plain image.
        blocks: Of it.
        device_path: Disk, or what stands for one; never made when it is not there.
        progress: Shows both passes.

    Returns:
        SHA-256 of the ranges, lower-case hex.

    Raises:
        OutputError: It cannot be written, or reads back as something else; names the byte.
    """
    with image_path.open("rb") as image, _disk(device_path) as device:
        progress.begin("write card", blocks.num_bytes // (1 << 20))
        # Whatever system was on the card must not start half overwritten.
        _write_all(device, bytes(min(GRAIN_BYTES, blocks.size_bytes)), 0, device_path)
        os.fsync(device)
        unsynced = 0
        for at, size in _pieces(blocks, first_last=True):
            _write_all(device, _read(image.fileno(), at, size, image_path), at, device_path)
            unsynced += size
            if unsynced >= _SYNC_BYTES:
                os.fsync(device)
                progress.advance(unsynced >> 20)
                unsynced = 0
        os.fsync(device)
        progress.advance(unsynced >> 20)
        progress.end()
        _drop_caches(device)
        return _verify(image.fileno(), device, blocks, (image_path, device_path), progress)


def _verify(image: int, device: int, blocks: BlockMap, paths: tuple[Path, Path], progress: Progress) -> str:
    progress.begin("verify card", blocks.num_bytes // (1 << 20))
    digest = hashlib.sha256()
    for at, size in _pieces(blocks, first_last=False):
        wanted, found = _read(image, at, size, paths[0]), _read(device, at, size, paths[1])
        if wanted != found:
            differing = next(index for index in range(size) if wanted[index] != found[index])
            raise OutputError(
                f"{paths[1]} gives back other bytes than it was given, first at byte {at + differing:,}",
                hint="the card is worn out, or smaller than it says: take another one",
            )
        digest.update(found)
        progress.advance(size >> 20)
    progress.end()
    with contextlib.suppress(OSError):  # a plain file, or somebody looks at the card already
        fcntl.ioctl(device, _BLKRRPART)
    return digest.hexdigest()


def _pieces(blocks: BlockMap, *, first_last: bool) -> Generator[tuple[int, int], None, None]:
    """(offset, size) of every piece; the grain at the very beginning comes at the end, where that is wanted."""
    for start, end in blocks.ranges:
        at = GRAIN_BYTES if first_last and start == 0 else start
        while at < end:
            size = min(CHUNK_BYTES, end - at)
            yield at, size
            at += size
    if first_last:
        yield 0, min(GRAIN_BYTES, blocks.size_bytes)


@contextlib.contextmanager
def _disk(path: Path) -> Generator[int, None, None]:
    """A disk that nobody else uses: for block devices, the kernel refuses O_EXCL when something is mounted.

    Raises:
        OutputError: It cannot be opened, or something failed while it was.
    """
    try:
        device = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
        try:
            yield device
        finally:
            os.close(device)
    except EdgekitError:
        raise
    except PermissionError as error:
        raise OutputError(f"no permission to write {path}", hint="try again with sudo") from error
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}", hint="is it mounted, in use, or gone?"
        ) from error


def _read(descriptor: int, at: int, size: int, path: Path) -> bytes:
    parts: list[bytes] = []
    while size:
        part = os.pread(descriptor, size, at)
        if not part:
            raise OutputError(f"{path} ends at byte {at:,}", hint="does the card hold what it says?")
        parts.append(part)
        at, size = at + len(part), size - len(part)
    return b"".join(parts)


def _write_all(device: int, content: bytes, at: int, path: Path) -> None:
    view = memoryview(content)
    while view:
        num_written = os.pwrite(device, view, at)
        if num_written == 0:
            raise OutputError(f"{path} takes no bytes at {at:,}", hint="does the card hold what it says?")
        view, at = view[num_written:], at + num_written


def _drop_caches(device: int) -> None:
    """Make sure that what is read comes from the card."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(device, _BLKFLSBUF)
    os.posix_fadvise(device, 0, 0, os.POSIX_FADV_DONTNEED)


def _check(disk: Disk, size_bytes: int, *, is_forced: bool) -> None:
    reasons = refusals(disk, size_bytes, is_forced=is_forced)
    if reasons:
        raise UsageError(f"not written: {'; '.join(reasons)}", hint=refusal_hint(disk, reasons))
