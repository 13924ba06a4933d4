"""Which bytes of an image a card needs: judged by what fsck says of a card that held something else before."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from card_images import BOOT_START, MIB, ROOT_START, assert_whole, root_of, run_tool
from edgekit.core.errors import IntegrityError
from edgekit.deploy.image.block_map import GRAIN_BYTES, map_blocks, parse_free_blocks, ranges_without

_SIZE = 40 * GRAIN_BYTES
_RANGES = st.lists(
    st.tuples(st.integers(0, _SIZE), st.integers(0, 9 * GRAIN_BYTES)).map(lambda pair: (pair[0], sum(pair))), max_size=8
)


@given(_RANGES, st.integers(1, _SIZE))
def test_every_byte_that_is_not_free_is_in_a_range(free: list[tuple[int, int]], size: int) -> None:
    ranges = ranges_without(size, free)
    covered = bytearray(size)
    for start, end in ranges:
        assert 0 <= start < end <= size
        assert not any(covered[start:end])
        covered[start:end] = b"\1" * (end - start)
    is_free = bytearray(size)
    for start, end in free:
        is_free[start : min(end, size)] = b"\1" * max(min(end, size) - start, 0)
    assert all(one or other for one, other in zip(covered, is_free, strict=True))
    assert ranges == sorted(ranges)


def test_used_card_is_whole_after_mapped_ranges_are_written(card: Path, tmp_path: Path) -> None:
    blocks = map_blocks(card)
    used = tmp_path / "used.img"
    content, old = card.read_bytes(), bytes(range(1, 256)) * (card.stat().st_size // 255 + 1)
    written = bytearray(old[: len(content)])
    for start, end in blocks.ranges:
        written[start:end] = content[start:end]
    used.write_bytes(written)
    assert_whole(used, tmp_path)
    assert blocks.num_bytes < len(content) / 2
    before, after = (run_tool("debugfs", "-R", "ls -l /etc", root_of(one)).stdout for one in (card, used))
    assert before == after


def test_map_agrees_with_what_the_file_system_calls_used(card: Path) -> None:
    said = dict(re.findall(r"^([A-Z][\w ]+):\s+(\d+)$", run_tool("dumpe2fs", "-h", root_of(card)).stdout, re.MULTILINE))
    used = (int(said["Block count"]) - int(said["Free blocks"])) * int(said["Block size"])
    in_root = sum(max(0, end - max(start, ROOT_START)) for start, end in map_blocks(card).ranges)
    assert used <= in_root <= used + 64 * GRAIN_BYTES


def test_table_and_gap_before_the_first_partition_are_always_written(card: Path) -> None:
    start, end = map_blocks(card).ranges[0]
    assert start == 0
    assert end > BOOT_START


def test_padding_behind_the_last_partition_is_left_out(card: Path, tmp_path: Path) -> None:
    padded = tmp_path / "padded.img"
    padded.write_bytes(card.read_bytes())
    with padded.open("r+b") as stream:
        stream.truncate(card.stat().st_size + 64 * MIB)
    assert map_blocks(padded).num_bytes == map_blocks(card).num_bytes
    with padded.open("r+b") as stream:
        stream.seek(-MIB, 2)
        stream.write(b"not padding")
    assert map_blocks(padded).ranges[-1][1] == padded.stat().st_size


def test_free_blocks_are_read_as_dumpe2fs_lists_them() -> None:
    text = "Block size:               1024\n\n  Free blocks: 3-5, 9\n  Free inodes: 1-2\n  Free blocks: \n"
    assert parse_free_blocks(text) == [(3072, 6144), (9216, 10240)]


def test_free_blocks_without_a_size_are_refused() -> None:
    with pytest.raises(IntegrityError, match="block size"):
        parse_free_blocks("Free blocks: 3-5\n")
