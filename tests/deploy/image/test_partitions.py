"""Partition tables and file system heads, read by our own parsers and judged by sfdisk and e2fsprogs."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from card_images import BOOT_BYTES, BOOT_START, MIB, ROOT_START, CardSpec, partition, root_of, run_tool
from edgekit.core.errors import IntegrityError
from edgekit.deploy.image.facts import read_layout
from edgekit.deploy.image.partitions import (
    HEAD_BYTES,
    MBR_BYTES,
    Partition,
    parse_ext,
    parse_fat,
    parse_layout,
    with_root_size,
)


def _entries(*partitions: tuple[int, int, int]) -> bytes:
    entries = [struct.pack("<B3sB3sII", 0, b"", kind, b"", start, count) for kind, start, count in partitions]
    return bytes(446) + b"".join(entries).ljust(64, b"\0") + b"\x55\xaa"


def test_layout_agrees_with_sfdisk(card: Path) -> None:
    layout, _ = read_layout(card)
    table = json.loads(run_tool("sfdisk", "-J", card).stdout)["partitiontable"]
    judged = [(one["start"] * 512, one["size"] * 512, int(one["type"], 16)) for one in table["partitions"]]
    assert [(one.start, one.size_bytes, one.kind) for one in (layout.boot, layout.root)] == judged


def test_superblock_agrees_with_dumpe2fs(card: Path) -> None:
    _, facts = read_layout(card)
    said = dict(re.findall(r"^([A-Z][\w ]+):\s+(\d+)$", run_tool("dumpe2fs", "-h", root_of(card)).stdout, re.MULTILINE))
    assert facts.block_bytes == int(said["Block size"])
    assert facts.num_blocks == int(said["Block count"])
    assert facts.num_free_blocks == int(said["Free blocks"])
    assert facts.num_free_inodes == int(said["Free inodes"])


def test_boot_sector_agrees_with_fsck(card: Path, tmp_path: Path) -> None:
    with card.open("rb") as stream:
        stream.seek(BOOT_START)
        content = stream.read(BOOT_BYTES)
    (tmp_path / "boot").write_bytes(content)
    facts = parse_fat(content[:HEAD_BYTES], Partition(number=1, kind=0x0C, start=BOOT_START, size_bytes=BOOT_BYTES))
    said = run_tool("fsck.vfat", "-n", "-v", tmp_path / "boot").stdout
    data, clusters = re.search(r"Data area starts at byte (\d+)", said), re.search(r"(\d+) data clusters", said)
    assert data is not None
    assert clusters is not None
    assert (facts.bits, facts.data_offset, facts.num_clusters) == (32, int(data[1]), int(clusters[1]))


def test_table_with_larger_root_is_read_by_sfdisk(card: Path, tmp_path: Path) -> None:
    layout, _ = read_layout(card)
    larger = tmp_path / "larger.img"
    larger.write_bytes(with_root_size(card.read_bytes()[:MBR_BYTES], layout, 100 * MIB))
    with larger.open("r+b") as stream:
        stream.truncate(ROOT_START + 100 * MIB)
    second = json.loads(run_tool("sfdisk", "-J", larger).stdout)["partitiontable"]["partitions"][1]
    assert (second["start"], second["size"]) == (ROOT_START // 512, 100 * MIB // 512)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("label: gpt\nsize=20M\nsize=20M\n", "GPT"),
        ("label: dos\nsize=20M,type=c\n", "expected two"),
        ("label: dos\nsize=20M,type=c\nsize=20M,type=83\nsize=20M,type=83\n", "expected two"),
        ("label: dos\nsize=20M,type=83\nsize=20M,type=c\n", "expected two"),
        ("label: dos\nsize=20M,type=c\nsize=40M,type=5\n", "expected two"),
    ],
    ids=["gpt", "one", "three", "swapped", "extended"],
)
def test_other_layout_is_refused(card: Path, tmp_path: Path, table: str, words: str) -> None:
    del card  # only for its programs
    other = tmp_path / "other.img"
    with other.open("wb") as stream:
        stream.truncate(100 * MIB)
    partition(other, table)
    with pytest.raises(IntegrityError, match=words):
        read_layout(other)


def test_no_table_is_refused() -> None:
    with pytest.raises(IntegrityError, match="no partition table"):
        parse_layout(bytes(512), 512)


def test_overlapping_partitions_are_refused() -> None:
    with pytest.raises(IntegrityError, match="overlapping"):
        parse_layout(_entries((0x0C, 8, 100), (0x83, 50, 100)), 1 << 20)


def test_truncated_image_is_refused_with_numbers() -> None:
    with pytest.raises(IntegrityError, match="ends at byte 102,400, the image at 102,399"):
        parse_layout(_entries((0x0C, 8, 92), (0x83, 100, 100)), 102_399)


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (0x38, 0, "no ext4"),
        (0x3A, 0, "cleanly"),
        (0x3A, 3, "cleanly"),
        (0x60, 0x40 | 0x4, "cleanly"),
        (0x60, 0, "ext2 or ext3"),
        (0x4, 1 << 20, "file system of"),
    ],
)
def test_unusable_superblock_is_refused(at: int, value: int, words: str) -> None:
    block = bytearray(1024)
    for offset, kind, number in ((0x38, "<H", 0xEF53), (0x3A, "<H", 1), (0x60, "<I", 0x40), (0x4, "<I", 64)):
        struct.pack_into(kind, block, offset, number)
    root = Partition(number=2, kind=0x83, start=0, size_bytes=1 << 16)
    parse_ext(bytes(1024) + bytes(block), root)
    struct.pack_into("<H" if at in (0x38, 0x3A) else "<I", block, at, value)
    with pytest.raises(IntegrityError, match=words):
        parse_ext(bytes(1024) + bytes(block), root)


@given(st.binary(max_size=600), st.integers(0, 1 << 40))
def test_any_bytes_are_a_layout_or_refused(noise: bytes, size: int) -> None:
    content = noise[:510].ljust(510, b"\0") + b"\x55\xaa"
    try:
        layout = parse_layout(content, size)
    except IntegrityError:
        return
    assert 512 <= layout.boot.start <= layout.boot.end <= layout.root.start <= layout.root.end <= size


@given(st.binary(min_size=512, max_size=512))
def test_any_boot_sector_is_read_or_refused(noise: bytes) -> None:
    head = b"\xeb" + noise[1:510] + b"\x55\xaa"
    part = Partition(number=1, kind=0x0C, start=0, size_bytes=1 << 30)
    try:
        facts = parse_fat(head, part)
    except IntegrityError:
        return
    assert facts.data_offset + facts.num_clusters * facts.cluster_bytes <= part.size_bytes


def test_spec_is_what_the_tests_think(card: Path) -> None:
    assert card.stat().st_size == ROOT_START + CardSpec().root_bytes
