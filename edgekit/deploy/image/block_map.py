"""Which bytes of an image a card needs: all but what its file systems call free.

Blocks that are in use are written even where they are zero, because what a used card has there is not. (Leaving out
what is merely zero, or a hole in the image file, would leave old inode tables and bitmaps on the card.)
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from edgekit.core.errors import IntegrityError
from edgekit.deploy.image.facts import read_layout
from edgekit.deploy.image.partitions import HEAD_BYTES, CardLayout, Partition, parse_fat
from edgekit.deploy.image.programs import run_program

GRAIN_BYTES = 4096
"""Ranges begin and end at multiples of it, counted from the image's beginning."""
_FREE = re.compile(r"^\s*Free blocks: (.*)$", re.MULTILINE)
_BLOCK_SIZE = re.compile(r"^Block size:\s+(\d+)$", re.MULTILINE)


class BlockMap(msgspec.Struct, frozen=True, kw_only=True):
    """What of an image has to be written.

    Args:
        size_bytes: Of the image.
        ranges: (first byte, byte behind the last), rising, apart from one another.
    """

    size_bytes: int
    ranges: tuple[tuple[int, int], ...]

    @property
    def num_bytes(self) -> int:
        """Bytes to write."""
        return sum(end - start for start, end in self.ranges)


def map_blocks(image_path: Path) -> BlockMap:
    """Map a card image with the layout of Raspberry Pi OS.

    Args:
        image_path: Plain image.

    Raises:
        IntegrityError: Another layout, or a file system that cannot be read.
        MissingDependencyError: dumpe2fs is missing.
    """
    layout, _ = read_layout(image_path)
    free = [*_free_ext(image_path, layout.root), *_free_fat(image_path, layout.boot)]
    free += _zero_tail(image_path, layout)
    return BlockMap(size_bytes=layout.size_bytes, ranges=tuple(ranges_without(layout.size_bytes, free)))


def ranges_without(size_bytes: int, free: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of [0, size_bytes) without the free ranges; grains that are free only in part stay.

    >>> ranges_without(20000, [(4096, 8192), (9000, 20000)])
    [(0, 4096), (8192, 12288)]
    """
    grain, left, at = GRAIN_BYTES, [], 0
    for start, end in sorted(free):
        start = -(-start // grain) * grain
        end = size_bytes if end >= size_bytes else end // grain * grain
        if end <= max(start, at):
            continue
        if start > at:
            left.append((at, start))
        at = end
    return [*left, (at, size_bytes)] if at < size_bytes else left


def parse_free_blocks(text: str) -> list[tuple[int, int]]:
    """Free bytes of an ext4 file system, from its beginning, as dumpe2fs(8) lists them by group.

    Raises:
        IntegrityError: It says no block size.
    """
    size = _BLOCK_SIZE.search(text)
    if size is None:
        raise IntegrityError("dumpe2fs tells no block size of the root file system", hint="is the image whole?")
    block = int(size[1])
    ranges = []
    for line in _FREE.findall(text):
        for word in filter(None, (part.strip() for part in line.split(","))):
            first, _, last = word.partition("-")
            if first.isdecimal() and (last or first).isdecimal():
                ranges.append((int(first) * block, (int(last or first) + 1) * block))
    return ranges


def _free_ext(image_path: Path, partition: Partition) -> list[tuple[int, int]]:
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        folder = Path(name)
        (folder / "card").symlink_to(image_path.absolute())
        ran = run_program("dumpe2fs", [f"card?offset={partition.start}"], folder)
    if ran.returncode != 0:
        said = ran.stderr.decode(errors="replace").strip().replace("\n", " / ")
        raise IntegrityError(f"dumpe2fs on the root file system: {said}", hint="is the image whole?")
    free = parse_free_blocks(ran.stdout.decode(errors="replace"))
    return [(partition.start + start, min(partition.start + end, partition.end)) for start, end in free]


def _free_fat(image_path: Path, partition: Partition) -> list[tuple[int, int]]:
    """Free clusters of a FAT16 or FAT32 partition: entries of the first table that are zero."""
    with image_path.open("rb") as stream:
        stream.seek(partition.start)
        facts = parse_fat(stream.read(HEAD_BYTES), partition)
        if facts.bits == 12:  # a megabyte or two: not worth the trouble
            return []
        stream.seek(partition.start + facts.fat_offset)
        kind = "<u4" if facts.bits == 32 else "<u2"
        table = np.frombuffer(stream.read((facts.num_clusters + 2) * facts.bits // 8), kind)
    is_free = (table & (0x0FFFFFFF if facts.bits == 32 else 0xFFFF)) == 0
    is_free[:2] = False
    edges = np.flatnonzero(np.diff(np.concatenate(([0], is_free.astype(np.int8), [0]))))
    data = partition.start + facts.data_offset
    return [
        (data + (int(first) - 2) * facts.cluster_bytes, data + (int(last) - 2) * facts.cluster_bytes)
        for first, last in edges.reshape(-1, 2)
    ]


def _zero_tail(image_path: Path, layout: CardLayout) -> list[tuple[int, int]]:
    """What lies behind the last partition and is a hole in the file: padding."""
    with image_path.open("rb") as stream:
        try:
            data = os.lseek(stream.fileno(), layout.root.end, os.SEEK_DATA)
        except OSError:  # nothing but a hole, or a file system that knows none
            data = layout.size_bytes if _is_hole(stream.fileno(), layout.root.end) else layout.root.end
    return [(layout.root.end, data)]


def _is_hole(descriptor: int, at: int) -> bool:
    try:
        return os.lseek(descriptor, at, os.SEEK_HOLE) == at
    except OSError:
        return False
