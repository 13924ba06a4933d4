"""The one-file form of a bundle, `.ekb`: a zip archive that can be written in one way only.

Nothing is compressed, names and their order are fixed, dates and attributes are constants, nothing stands before,
between or behind. So the same files make the same bytes, the five sizes and checksums say everything, and a reader
compares instead of interpreting: an archive with a link, a path, a second entry of a name, a compressed entry, a
comment, or a gap is not one of ours, and is refused before any content is read. (`unzip -l` still shows what is in it.)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import IO

import msgspec

from edgekit.bundle.check import MAX_FILE_BYTES, NAMES, check_names, check_size
from edgekit.core.errors import IntegrityError

EXTENSION = ".ekb"
MAGIC = b"PK\x03\x04"

# APPNOTE.TXT 6.3.10, 4.3.7, 4.3.12 and 4.3.16. Zip counts days from 1980-01-01, which is (0 << 9) | (1 << 5) | 1.
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_DATE, _TIME = 0x21, 0
_NEEDS, _MADE_BY_UNIX = 10, (3 << 8) | 10
_ATTRIBUTES = 0o100644 << 16
"""A regular file that everybody may read."""

_CENTRAL_FIELDS = (
    "signature", "writer", "version", "flags", "compression", "time", "date", "checksum", "compressed size", "size",
    "name length", "extra fields", "comment", "disk", "internal attributes", "attributes", "offset",
)  # fmt: skip
_CENTRAL_BYTES = sum(_CENTRAL.size + len(name) for name in NAMES)
_MAX_TAIL_BYTES = 4096
OVERHEAD_BYTES = _CENTRAL_BYTES + _END.size + sum(_LOCAL.size + len(name) for name in NAMES)
"""What an archive has beyond its files' contents."""

MAX_ARCHIVE_BYTES = OVERHEAD_BYTES + sum(MAX_FILE_BYTES.values())
_HINT = "get the bundle again, or make it again with edgekit bundle"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file's content lies in an archive.

    Args:
        offset: Its first byte.
        size_bytes: Its size.
        crc32: Of its content, as zip has it.
    """

    offset: int
    size_bytes: int
    crc32: int


def encode_archive(contents: Mapping[str, bytes]) -> bytes:
    """The bytes of an `.ekb` file.

    Args:
        contents: Every file of the bundle by its name, the manifest among them.

    Raises:
        IntegrityError: A file is missing, too many, or too large.
    """
    check_names(list(contents))
    parts: list[bytes] = []
    places: dict[str, Place] = {}
    offset = 0
    for name in NAMES:
        content = contents[name]
        check_size(name, len(content))
        offset += _LOCAL.size + len(name)
        places[name] = Place(offset=offset, size_bytes=len(content), crc32=zlib.crc32(content))
        parts += [_local_header(name, places[name]), content]
        offset += len(content)
    return b"".join([*parts, _directory(places)])


def read_places(stream: IO[bytes], size_bytes: int) -> dict[str, Place]:
    """Find the files in an archive, and check that there is nothing else in it.

    Args:
        stream: The archive, seekable.
        size_bytes: Its size.

    Raises:
        IntegrityError: It is not what `encode_archive` writes; says where it differs.
    """
    if not OVERHEAD_BYTES <= size_bytes <= MAX_ARCHIVE_BYTES:
        raise _refused(f"has {size_bytes:,} bytes, expected {OVERHEAD_BYTES:,} to {MAX_ARCHIVE_BYTES:,}")
    stream.seek(max(0, size_bytes - _MAX_TAIL_BYTES))
    tail = stream.read(_MAX_TAIL_BYTES)
    if tail[-_END.size :][:4] != b"PK\x05\x06":
        raise _refused("is no .ekb file, is truncated, or has something behind its end")
    num_entries, central_bytes = _END.unpack(tail[-_END.size :])[4:6]
    if num_entries != len(NAMES):
        raise _refused(f"holds {num_entries:,} files, expected {len(NAMES)}: {', '.join(NAMES)}")
    if central_bytes > len(tail) - _END.size:
        raise _refused(f"has a directory of {central_bytes:,} bytes, expected {_CENTRAL_BYTES}")
    places = _read_directory(tail[len(tail) - _END.size - central_bytes : -_END.size])
    expected = _directory(places)
    content_end = max(place.offset + place.size_bytes for place in places.values())
    if not tail.endswith(expected) or size_bytes != content_end + len(expected):
        raise _refused(f"has {size_bytes:,} bytes, its entries make {content_end + len(expected):,}")
    for name, place in places.items():
        header = _local_header(name, place)
        stream.seek(place.offset - len(header))
        if stream.read(len(header)) != header:
            raise _refused(f"says two things about {name}")
    return places


def _read_directory(central: bytes) -> dict[str, Place]:
    """Sizes and checksums of the central directory, every other field of it compared."""
    places: dict[str, Place] = {}
    position = content_end = 0
    for name in NAMES:
        if position + _CENTRAL.size > len(central):
            raise _refused(f"has a directory of {len(central):,} bytes, expected {_CENTRAL_BYTES}")
        fields = _CENTRAL.unpack_from(central, position)
        crc32, size_bytes, name_bytes = fields[7], fields[9], fields[10]
        place = Place(offset=content_end + _LOCAL.size + len(name), size_bytes=size_bytes, crc32=crc32)
        found = central[position + _CENTRAL.size :][:name_bytes]
        if found != name.encode():
            raise _refused(f"holds {found[:80]!a}, expected {name} there")
        check_size(name, size_bytes)
        for what, value, expected in zip(_CENTRAL_FIELDS, fields, _central_fields(name, place), strict=True):
            if value != expected:
                raise _refused(f"has {what} {value!a} where {name} stands, expected {expected!a}")
        places[name] = place
        position += _CENTRAL.size + name_bytes
        content_end = place.offset + size_bytes
    return places


def _local_header(name: str, place: Place) -> bytes:
    size = place.size_bytes
    fields = (MAGIC, _NEEDS, 0, 0, _TIME, _DATE, place.crc32, size, size, len(name), 0)
    return _LOCAL.pack(*fields) + name.encode()


def _central_fields(name: str, place: Place) -> tuple[bytes | int, ...]:
    size, offset = place.size_bytes, place.offset - _LOCAL.size - len(name)
    dated = (_MADE_BY_UNIX, _NEEDS, 0, 0, _TIME, _DATE)
    return (b"PK\x01\x02", *dated, place.crc32, size, size, len(name), 0, 0, 0, 0, _ATTRIBUTES, offset)


def _directory(places: Mapping[str, Place]) -> bytes:
    """Central directory and end record."""
    central = b"".join(_CENTRAL.pack(*_central_fields(name, places[name])) + name.encode() for name in NAMES)
    last = places[NAMES[-1]]
    num, start = len(NAMES), last.offset + last.size_bytes
    return central + _END.pack(b"PK\x05\x06", 0, 0, num, num, len(central), start, 0)


def _refused(what: str) -> IntegrityError:
    return IntegrityError(f"the bundle {what}", hint=_HINT)
