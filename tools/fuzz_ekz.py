"""Coverage-guided fuzzing of the .ekz decoder (needs atheris, which is no dependency).

    python tools/fuzz_ekz.py /tmp/corpus tests/fuzz/corpus -max_total_time=600

An input is two bytes of length, a header as MessagePack before compression (plain or in columns), and the sections;
checksums are put right, so that the fuzzer gets past them. An input that begins as a file does is taken as a whole file
instead. The decoder may raise IntegrityError and nothing else.
"""

from __future__ import annotations

import importlib
import io
import struct
import sys
import zlib
from typing import Any

atheris: Any = importlib.import_module("atheris")  # no dependency, not even of the tests

with atheris.instrument_imports(include=["edgekit.encode"]):
    import msgspec

    from edgekit.core.errors import IntegrityError
    from edgekit.encode.columns import ColumnHeader, from_columns, to_columns
    from edgekit.encode.container import write_front
    from edgekit.encode.pieces import Header
    from edgekit.encode.unpacking import MemorySink, unpack

MAX_BYTES = 1 << 20


def main() -> None:
    """Fuzz until told to stop."""
    atheris.Setup(sys.argv, decode_anything)
    atheris.Fuzz()


def decode_anything(content: bytes) -> None:
    """One input."""
    packed = content if content[:1] == b"\x89" else as_file(content)
    if packed is None:
        return
    try:
        unpack(io.BytesIO(packed), len(packed), MemorySink(), max_bytes=MAX_BYTES)
    except IntegrityError:
        return


def as_file(content: bytes) -> bytes | None:
    """The input as a file whose checksums are right; None when its header is no header."""
    if len(content) < 2:
        return None
    (length,) = struct.unpack_from("<H", content)
    raw = content[2 : 2 + length]
    try:
        if raw[:1] == b"\x98":
            header = from_columns(msgspec.msgpack.decode(raw, type=ColumnHeader))
        else:
            header = msgspec.msgpack.decode(raw, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IntegrityError):
        return None
    body = content[2 + length :]
    sections = []
    begin = 0
    for section in header.sections:
        end = begin + max(0, min(section.length, len(body)))
        payload = body[begin:end]
        sections.append(msgspec.structs.replace(section, length=len(payload), crc=zlib.crc32(payload)))
        begin = end
    return write_front(msgspec.structs.replace(header, sections=tuple(sections))) + body[:begin]


def as_input(packed: bytes, header: Header) -> bytes:
    """A file as an input with a header in columns, for the corpus."""
    raw = msgspec.msgpack.encode(to_columns(header))
    payload_bytes = sum(section.length for section in header.sections)
    return struct.pack("<H", len(raw)) + raw + packed[len(packed) - payload_bytes :]


if __name__ == "__main__":
    main()
