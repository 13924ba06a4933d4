"""The one-file form: written in one way only, and every other zip archive is refused."""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import plain_contents
from edgekit.bundle.archive import MAX_ARCHIVE_BYTES, OVERHEAD_BYTES, encode_archive, read_places
from edgekit.bundle.check import NAMES
from edgekit.bundle.reading import open_bundle
from edgekit.core.errors import IntegrityError

Change = Callable[[zipfile.ZipInfo], None]


def refusal(content: bytes) -> str:
    """Why an archive is refused."""
    with pytest.raises(IntegrityError) as caught:
        read_places(io.BytesIO(content), len(content))
    return caught.value.message


def foreign_archive(
    change: Change = lambda _: None,
    *,
    names: tuple[str, ...] = NAMES,
    compression: int = zipfile.ZIP_STORED,
    comment: bytes = b"",
) -> bytes:
    """What Python's zipfile makes of a bundle's files, as close to ours as it can, but for one change."""
    contents = plain_contents()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of a name that is there twice
        archive.comment = comment
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100644 << 16
            entry.create_system, entry.create_version, entry.extract_version = 3, 10, 10
            entry.compress_type = compression
            change(entry)
            archive.writestr(entry, contents.get(name, b"evil"))
    return buffer.getvalue()


def set_mode(mode: int) -> Change:
    def change(entry: zipfile.ZipInfo) -> None:
        entry.external_attr = mode << 16

    return change


@given(st.permutations(NAMES), st.binary(max_size=300))
def test_same_files_make_the_same_bytes_in_any_order(order: list[str], model: bytes) -> None:
    contents = {**plain_contents(), "model.ekz": model}

    assert encode_archive({name: contents[name] for name in order}) == encode_archive(contents)


@given(st.lists(st.binary(max_size=200), min_size=len(NAMES), max_size=len(NAMES)))
def test_places_are_where_the_contents_lie(parts: list[bytes]) -> None:
    contents = dict(zip(NAMES, parts, strict=True))
    packed = encode_archive(contents)

    places = read_places(io.BytesIO(packed), len(packed))

    found = {name: packed[place.offset : place.offset + place.size_bytes] for name, place in places.items()}
    assert found == contents
    assert len(packed) == OVERHEAD_BYTES + sum(map(len, parts))


def test_other_zip_readers_read_it() -> None:
    contents = plain_contents()
    with zipfile.ZipFile(io.BytesIO(encode_archive(contents))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == contents
        assert all(stat.S_ISREG(entry.external_attr >> 16) for entry in archive.infolist())


def test_archive_of_another_writer_is_accepted_when_it_is_the_same_bytes() -> None:
    assert foreign_archive() == encode_archive(plain_contents())


@pytest.mark.parametrize(
    ("mode", "attack"),
    [
        (stat.S_IFLNK | 0o777, "symlink"),
        (stat.S_IFCHR | 0o666, "device node"),
        (stat.S_IFBLK | 0o666, "block device"),
        (stat.S_IFIFO | 0o644, "pipe"),
        (stat.S_IFREG | 0o4755, "setuid"),
        (stat.S_IFREG | 0o2755, "setgid"),
        (stat.S_IFREG | 0o755, "executable"),
        (stat.S_IFDIR | 0o755, "folder"),
    ],
)
def test_entry_that_is_no_plain_file_is_refused(mode: int, attack: str) -> None:
    assert "attributes" in refusal(foreign_archive(set_mode(mode))), attack


@pytest.mark.parametrize(
    "name",
    [
        "../model.ekz", "/model.ekz", "..\\model.ekz", "./model.ekz", "sub/model.ekz", "C:model.ekz",
        "MODEL.EKZ", "model.ekz ", "model\uff0eekz", "model.ekz/", "modél.ekz", "extra.bin",
    ],
)  # fmt: skip
def test_entry_of_another_name_is_refused(name: str) -> None:
    message = refusal(foreign_archive(names=(NAMES[0], name, *NAMES[2:])))

    assert "expected model.ekz" in message


def test_entry_that_is_there_twice_is_refused() -> None:
    assert "expected labels.txt there" in refusal(foreign_archive(names=(*NAMES[:2], NAMES[1], *NAMES[3:])))
    assert "holds 6 files" in refusal(foreign_archive(names=(*NAMES, NAMES[1])))


def test_missing_entry_is_refused() -> None:
    assert "holds 4 files" in refusal(foreign_archive(names=NAMES[:-1]))


def test_hundred_thousand_entries_are_refused_unread() -> None:
    central = b"".join(struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *[0] * 16) for _ in range(10))
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 46 * 100_000, 0, 0)

    assert "holds 65,535 files" in refusal(b"x" * 5_000_000 + central + end)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_entry_is_refused(compression: int) -> None:
    message = refusal(foreign_archive(compression=compression))
    assert any(word in message for word in ("compression", "version", "writer"))


def test_entry_that_claims_to_be_huge_is_refused_unread() -> None:
    packed = bytearray(encode_archive(plain_contents()))
    start = packed.index(b"PK\x01\x02", packed.index(b"PK\x01\x02") + 4)
    packed[start + 20 : start + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)

    assert "model.ekz has 4,294,967,280 bytes" in refusal(bytes(packed))


def test_comment_and_trailing_garbage_are_refused() -> None:
    whole = encode_archive(plain_contents())

    for content in (foreign_archive(comment=b"hello"), whole + b"\0", whole + b"PK\x05\x06"):
        assert "behind its end" in refusal(content)
    assert "its entries make" in refusal(whole + whole)


def test_garbage_before_or_between_is_refused() -> None:
    whole = encode_archive(plain_contents())
    gap = whole.index(b"PK\x03\x04", 4)

    for content in (b"#!/bin/sh\n" + whole, whole[:gap] + b"gap" + whole[gap:]):
        assert "its entries make" in refusal(content)


def test_extra_field_date_and_other_writers_are_refused() -> None:
    def add_extra(entry: zipfile.ZipInfo) -> None:
        entry.extra = b"\x99\x99\x04\0evil"

    def set_date(entry: zipfile.ZipInfo) -> None:
        entry.date_time = (2026, 1, 2, 3, 4, 6)

    def set_system(entry: zipfile.ZipInfo) -> None:
        entry.create_system = 0

    assert "extra fields" in refusal(foreign_archive(add_extra))
    assert "time" in refusal(foreign_archive(set_date))
    assert "writer" in refusal(foreign_archive(set_system))


def test_local_header_that_says_something_else_is_refused() -> None:
    packed = bytearray(encode_archive(plain_contents()))
    start = packed.index(b"PK\x03\x04", 4)
    packed[start + 30 : start + 39] = b"../../etc"

    assert "says two things about model.ekz" in refusal(bytes(packed))


def test_every_truncation_is_refused() -> None:
    packed = encode_archive(plain_contents())

    for length in range(len(packed)):
        refusal(packed[:length])


def test_size_outside_the_caps_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.ekb"
    with path.open("wb") as stream:
        stream.truncate(MAX_ARCHIVE_BYTES + 1)  # takes no disk, and would take an hour to read

    with pytest.raises(IntegrityError, match=r"huge\.ekb: the bundle has .* bytes, expected"):
        open_bundle(path)


def test_encoding_refuses_files_that_are_missing_or_too_many() -> None:
    contents = plain_contents()

    with pytest.raises(IntegrityError, match=r"lacks labels\.txt"):
        encode_archive({name: content for name, content in contents.items() if name != "labels.txt"})
    with pytest.raises(IntegrityError, match=r"holds 'setup\.py'"):
        encode_archive({**contents, "setup.py": b""})
