"""What lies where in a card image: partition table and the two file systems' own words, read as pure functions.

The layout that Raspberry Pi OS has, and the only one that is accepted: a DOS partition table (MBR) with a FAT partition
for the firmware and an ext4 partition for the root.
"""

from __future__ import annotations

import struct

import msgspec

from edgekit.core.errors import IntegrityError

SECTOR_BYTES = 512
MBR_BYTES = 512
SUPERBLOCK_OFFSET = 1024
"""Of ext4, from the partition's beginning."""
HEAD_BYTES = 4096
"""Of a partition: enough for a FAT boot sector and an ext4 superblock."""

_ENTRIES_OFFSET, _ENTRY_BYTES, _NUM_ENTRIES = 446, 16, 4
_FAT_KINDS = frozenset({0x06, 0x0B, 0x0C, 0x0E})
_LINUX_KIND = 0x83
_GPT_KIND = 0xEE
_EXT_MAGIC = 0xEF53
_STATE_CLEAN, _STATE_ERRORS = 0x1, 0x2
_INCOMPAT_EXTENTS, _INCOMPAT_RECOVER, _INCOMPAT_64BIT = 0x40, 0x4, 0x80
_LAYOUT_HINT = "take a Raspberry Pi OS image (64 bit): a FAT partition with the firmware, then an ext4 root"


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """One partition.

    Args:
        number: From 1, as in /dev/sdX1.
        kind: Type byte of the table.
        start: Offset of its first byte in the image.
        size_bytes: Its size.
    """

    number: int
    kind: int
    start: int
    size_bytes: int

    @property
    def end(self) -> int:
        """Offset behind its last byte."""
        return self.start + self.size_bytes


class CardLayout(msgspec.Struct, frozen=True, kw_only=True):
    """A card image that has the layout of Raspberry Pi OS.

    Args:
        boot: FAT.
        root: ext4.
        size_bytes: Of the image.
    """

    boot: Partition
    root: Partition
    size_bytes: int


class ExtFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an ext4 superblock says.

    Args:
        block_bytes: Size of a block.
        num_blocks: All blocks.
        num_free_blocks: Of them free.
        num_free_inodes: Files that can still be made.
        written_unix_s: When it was last written.
    """

    block_bytes: int
    num_blocks: int
    num_free_blocks: int
    num_free_inodes: int
    written_unix_s: int

    @property
    def free_bytes(self) -> int:
        """Free for files."""
        return self.num_free_blocks * self.block_bytes


class FatFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a FAT boot sector says.

    Args:
        bits: 12, 16 or 32.
        sector_bytes: Size of a sector.
        cluster_bytes: Size of a cluster.
        fat_offset: Of the first allocation table, from the partition's beginning.
        data_offset: Of the first cluster, which has number 2.
        num_clusters: Clusters with data.
    """

    bits: int
    sector_bytes: int
    cluster_bytes: int
    fat_offset: int
    data_offset: int
    num_clusters: int


def parse_layout(mbr: bytes, size_bytes: int) -> CardLayout:
    """Read a partition table.

    Args:
        mbr: First 512 bytes of the image.
        size_bytes: Of the image.

    Raises:
        IntegrityError: No such table, another layout, or the image ends before a partition does.
    """
    if len(mbr) < MBR_BYTES or mbr[510:512] != b"\x55\xaa":
        raise IntegrityError("no partition table (0x55AA at byte 510): not an image of a card", hint=_LAYOUT_HINT)
    partitions = [one for index in range(_NUM_ENTRIES) if (one := _parse_entry(mbr, index)) is not None]
    found = ", ".join(f"{one.number}: type {one.kind:#04x}, {one.size_bytes:,} bytes" for one in partitions) or "none"
    if any(one.kind == _GPT_KIND for one in partitions):
        raise IntegrityError("a GPT partition table, expected a DOS one (MBR) with two partitions", hint=_LAYOUT_HINT)
    if len(partitions) != 2 or partitions[0].kind not in _FAT_KINDS or partitions[1].kind != _LINUX_KIND:
        raise IntegrityError(f"partitions {found}; expected two: FAT (0x0c), then Linux (0x83)", hint=_LAYOUT_HINT)
    boot, root = partitions
    if boot.start < MBR_BYTES or boot.end > root.start:
        raise IntegrityError(f"overlapping partitions: {found}", hint=_LAYOUT_HINT)
    if root.end > size_bytes:
        raise IntegrityError(
            f"truncated: partition 2 ends at byte {root.end:,}, the image at {size_bytes:,}", hint="get the image again"
        )
    return CardLayout(boot=boot, root=root, size_bytes=size_bytes)


def with_root_size(mbr: bytes, layout: CardLayout, size_bytes: int) -> bytes:
    """The partition table with a root partition of another size; the start stays, so boards find it as before."""
    at = _ENTRIES_OFFSET + (layout.root.number - 1) * _ENTRY_BYTES
    entry = bytearray(mbr[at : at + _ENTRY_BYTES])
    entry[5:8] = b"\xfe\xff\xff"  # cylinders, heads, sectors: "see the numbers behind", as every tool writes it today
    entry[12:16] = struct.pack("<I", size_bytes // SECTOR_BYTES)
    return mbr[:at] + bytes(entry) + mbr[at + _ENTRY_BYTES :]


def parse_ext(head: bytes, partition: Partition) -> ExtFacts:
    """Read an ext4 superblock (kernel.org, "ext4 Data Structures and Algorithms", 3.1).

    Args:
        head: First `HEAD_BYTES` of the partition.
        partition: Where it lies.

    Raises:
        IntegrityError: None, one that was not unmounted cleanly, or one that is larger than its partition.
    """
    block = head[SUPERBLOCK_OFFSET:HEAD_BYTES]
    if len(block) < 1024 or struct.unpack_from("<H", block, 0x38)[0] != _EXT_MAGIC:
        raise IntegrityError(f"partition {partition.number} holds no ext4 file system", hint=_LAYOUT_HINT)
    state, incompat = struct.unpack_from("<H", block, 0x3A)[0], struct.unpack_from("<I", block, 0x60)[0]
    if not incompat & _INCOMPAT_EXTENTS:
        raise IntegrityError(f"partition {partition.number} holds ext2 or ext3, expected ext4", hint=_LAYOUT_HINT)
    if incompat & _INCOMPAT_RECOVER or state & _STATE_ERRORS or not state & _STATE_CLEAN:
        raise IntegrityError(
            f"the root file system was not unmounted cleanly (state {state:#x})",
            hint="take the image as it was released; of a used card, run e2fsck on the partition first",
        )
    has_high = bool(incompat & _INCOMPAT_64BIT)
    low, high = (struct.unpack_from("<I", block, at)[0] for at in (0x4, 0x150))
    free_low, free_high = (struct.unpack_from("<I", block, at)[0] for at in (0xC, 0x158))
    shift = struct.unpack_from("<I", block, 0x18)[0]
    facts = ExtFacts(
        block_bytes=1024 << min(shift, 6),
        num_blocks=low | (high << 32 if has_high else 0),
        num_free_blocks=free_low | (free_high << 32 if has_high else 0),
        num_free_inodes=struct.unpack_from("<I", block, 0x10)[0],
        written_unix_s=struct.unpack_from("<I", block, 0x30)[0],
    )
    if facts.num_blocks * facts.block_bytes > partition.size_bytes or facts.num_free_blocks > facts.num_blocks:
        raise IntegrityError(
            f"a file system of {facts.num_blocks * facts.block_bytes:,} bytes in a partition of "
            f"{partition.size_bytes:,}",
            hint="get the image again",
        )
    return facts


def parse_fat(head: bytes, partition: Partition) -> FatFacts:
    """Read a FAT boot sector (Microsoft, "FAT: General Overview of On-Disk Format", 1.03).

    Args:
        head: First bytes of the partition, at least 512.
        partition: Where it lies.

    Raises:
        IntegrityError: There is none, or its numbers do not fit the partition.
    """
    if len(head) < SECTOR_BYTES or head[510:512] != b"\x55\xaa" or head[0] not in (0xEB, 0xE9):
        raise IntegrityError(f"partition {partition.number} holds no FAT file system", hint=_LAYOUT_HINT)
    sector, cluster, reserved, num_fats, num_root = struct.unpack_from("<HBHBH", head, 11)
    total = struct.unpack_from("<H", head, 19)[0] or struct.unpack_from("<I", head, 32)[0]
    fat_sectors = struct.unpack_from("<H", head, 22)[0] or struct.unpack_from("<I", head, 36)[0]
    is_sane = (
        sector in (512, 1024, 2048, 4096) and cluster and cluster & (cluster - 1) == 0 and num_fats and fat_sectors
    )
    root_sectors = -(-num_root * 32 // sector) if is_sane else 0
    data = reserved + num_fats * fat_sectors + root_sectors
    if not is_sane or data > total or total * sector > partition.size_bytes:
        raise IntegrityError(f"partition {partition.number}: a damaged FAT boot sector", hint="get the image again")
    num_clusters = (total - data) // cluster
    return FatFacts(
        bits=12 if num_clusters < 4085 else 16 if num_clusters < 65525 else 32,
        sector_bytes=sector,
        cluster_bytes=cluster * sector,
        fat_offset=reserved * sector,
        data_offset=data * sector,
        num_clusters=num_clusters,
    )


def _parse_entry(mbr: bytes, index: int) -> Partition | None:
    """One of the four entries; None for an empty one."""
    at = _ENTRIES_OFFSET + index * _ENTRY_BYTES
    kind = mbr[at + 4]
    start, count = struct.unpack_from("<II", mbr, at + 8)
    if kind == 0:
        return None
    return Partition(number=index + 1, kind=kind, start=start * SECTOR_BYTES, size_bytes=count * SECTOR_BYTES)
