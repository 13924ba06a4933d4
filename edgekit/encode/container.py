"""The front of an `.ekz` file: magic, version, and the header behind them. See docs/ekz.md."""

from __future__ import annotations

import struct
import zlib
from typing import IO

import msgspec

from edgekit.core.errors import IntegrityError
from edgekit.encode.columns import ColumnHeader, from_columns, to_columns
from edgekit.encode.pieces import Header
from edgekit.encode.plausibility import check_header
from edgekit.encode.residue import compress, decompress

MAGIC = b"\x89EKZ\r\n\x1a\n"
VERSION = 2
MAX_HEADER_BYTES = 1 << 24

_FRONT = struct.Struct("<8sHHIII")
"""Magic, version, zero, bytes of the header before and after compression, CRC-32 of all before it and the header."""

_PLAIN = b"\x95"
"""First byte of a header that is not in columns: MessagePack's array of five."""

_HINT = "get the file again"


def write_front(header: Header) -> bytes:
    """Magic, version and header: as columns, or as it is where that is shorter."""
    both = [msgspec.msgpack.encode(to_columns(header)), msgspec.msgpack.encode(header)]
    raw, packed = min(((one, compress(one)) for one in both), key=lambda pair: len(pair[1]))
    front = _FRONT.pack(MAGIC, VERSION, 0, len(raw), len(packed), 0)[:-4]
    return front + struct.pack("<I", zlib.crc32(packed, zlib.crc32(front))) + packed


def read_front(stream: IO[bytes], size_bytes: int) -> Header:
    """Read and check the header; the stream is left at the first section.

    Args:
        stream: At its start.
        size_bytes: Of the `.ekz` file.

    Raises:
        IntegrityError: Another kind of file, a newer version, damaged, or of another size than the header says.
    """
    front = stream.read(_FRONT.size)
    if front[: len(MAGIC)] != MAGIC[: len(front)]:
        raise IntegrityError(f"no .ekz file: it begins with {front[:8].hex(' ')}", hint="edgekit pack makes one")
    if len(front) < _FRONT.size:
        raise IntegrityError(f"the file ends at offset {len(front)}, in its first {_FRONT.size} bytes", hint=_HINT)
    _, version, zero, raw_bytes, packed_bytes, crc = _FRONT.unpack(front)
    if version > VERSION:
        raise IntegrityError(
            f".ekz format version {version}, this edgekit reads up to {VERSION}", hint="install a newer edgekit"
        )
    if version == 0 or zero != 0 or raw_bytes > MAX_HEADER_BYTES:
        raise IntegrityError(
            f"the front is damaged (offset 8 to 16): version {version}, header of {raw_bytes} bytes, "
            f"at most {MAX_HEADER_BYTES}",
            hint=_HINT,
        )
    if _FRONT.size + packed_bytes > size_bytes:
        raise IntegrityError(f"the file ends at offset {size_bytes}, in its header of {packed_bytes} bytes", hint=_HINT)
    packed = stream.read(packed_bytes)
    if zlib.crc32(packed, zlib.crc32(front[:-4])) != crc:
        raise IntegrityError(f"the header is damaged (offset 0 to {_FRONT.size + packed_bytes})", hint=_HINT)
    header = _parse(packed, raw_bytes, version)
    expected = _FRONT.size + packed_bytes + sum(section.length for section in header.sections)
    if expected != size_bytes:
        raise IntegrityError(f"the file has {size_bytes} bytes, its header says {expected}", hint=_HINT)
    return header


def _parse(packed: bytes, raw_bytes: int, version: int) -> Header:
    raw = decompress(packed, raw_bytes)
    try:
        if version == 1 or raw[:1] == _PLAIN:
            header = msgspec.msgpack.decode(raw, type=Header)
        else:
            header = from_columns(msgspec.msgpack.decode(raw, type=ColumnHeader))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"the header cannot be read: {error}", hint=_HINT) from error
    check_header(header)
    return header
