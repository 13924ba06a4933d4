r"""Deltas between two releases, `.ekd`: what a board that has the one needs to make the other. Board side.

A delta holds no trust: what it makes is a bundle, which is checked like any other, and whose digest was known before.
So all that a hostile delta can do is waste time and memory, and both have bounds: every size is stated in front, capped
by the name that it belongs to, and never exceeded while it is decompressed.

    8 bytes     "EKDELTA" and the version, 1
    4 bytes     length of the header, little-endian
    header      JSON: `DeltaHeader`
    sections    of every part in their order, as the header says; nothing behind the last

A patch is bsdiff's (Percival 2003, "Naive differences of executable code"): control triples (bytes to add a difference
to, bytes to insert, how far to move on in the old file), the differences, the insertions. Each of the three is
compressed by itself. Applying one takes numpy and nothing else.

Two trained models differ a little in every weight; packed, in every bit. So `model.ekz` may come as a patch of the
*unpacked* model (`model_patch`): the board unpacks the one, patches it, and packs the other. Packing is deterministic,
but its bytes may change with edgekit's version: then the hash is wrong, the delta is refused, the full file fetched.
"""

# numpy's stubs lose types under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import bz2
import hashlib
import lzma
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Literal, Protocol, TypeAlias

import msgspec
import numpy as np

from edgekit.bundle.check import MAX_FILE_BYTES, MAX_MODEL_BYTES, NAMES, check_size, parse_manifest
from edgekit.bundle.manifest import MANIFEST, MODEL
from edgekit.bundle.reading import Bundle, open_bundle, read_file, write_bundle
from edgekit.core.errors import DataError, IntegrityError, UsageError

DELTA_EXTENSION = ".ekd"
MAGIC = b"EKDELTA\x01"
MAX_HEADER_BYTES = 1 << 16
MAX_CONTROL_BYTES = 24 << 20
"""A million triples."""

XZ_MEMORY_BYTES = 32 << 20
_LENGTH = struct.Struct("<I")
_TRIPLE_BYTES = 24
_SIGN = 1 << 63
_INTEGER = struct.Struct("<Q")
_HINT = "fetch the whole bundle instead"

Codec: TypeAlias = Literal["raw", "bz2", "xz"]
Method: TypeAlias = Literal["same", "full", "patch", "model_patch"]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run of bytes.

    Args:
        codec: How it is compressed.
        packed_bytes: In the delta.
        size_bytes: Decompressed.
    """

    codec: Codec
    packed_bytes: int
    size_bytes: int


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one file of the new release is made.

    Args:
        name: Of the file.
        method: `same` as in the old release; `full`; a `patch` of the old one; for the model a patch of the unpacked
            one, packed again.
        sections: None, one (`full`), or three (control, differences, insertions).
    """

    name: str
    method: Method
    sections: tuple[Section, ...] = ()


class DeltaHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a delta says about itself.

    Args:
        base: Digest of the release that it needs.
        target: Digest of the release that it makes.
        parts: Every file, the manifest first, in the order of an `.ekb` file.
    """

    base: str
    target: str
    parts: tuple[Part, ...]


class ModelCodec(Protocol):
    """Between `model.ekz` and the model in it; the packer, which this layer does not know."""

    def unpack(self, packed: bytes, max_bytes: int) -> bytes:
        """The model. Raises IntegrityError."""
        ...

    def pack(self, model: bytes) -> bytes:
        """The same bytes for the same model, as long as edgekit is the same."""
        ...


def read_header(path: Path) -> DeltaHeader:
    """Read and check what a delta says about itself.

    Raises:
        IntegrityError: No delta, or an impossible one.
        UsageError, DataError: It is not there, or cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return _read_header(stream, path.stat().st_size)
    except FileNotFoundError as error:
        raise UsageError(f"no delta at {path}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def apply_delta(path: Path, base: Bundle, out: Path, codec: ModelCodec) -> Bundle:
    """Make the new release of the old one.

    Args:
        path: The delta.
        base: A checked bundle, the old release.
        out: `.ekb` file to write.
        codec: Packs models.

    Returns:
        The new release, checked, as it was read back.

    Raises:
        UsageError: It belongs to another release.
        IntegrityError: It is damaged, or what it makes is not what it says.
        DataError, OutputError: Reading or writing fails.
    """
    header = read_header(path)
    if header.base != base.digest:
        raise UsageError(f"{path} is for the release {header.base[:12]}, installed is {base.digest[:12]}", hint=_HINT)
    contents: dict[str, bytes] = {}
    limits: Mapping[str, int] = {MANIFEST: MAX_FILE_BYTES[MANIFEST]}
    max_model = MAX_MODEL_BYTES
    with path.open("rb") as stream:
        stream.seek(len(MAGIC) + _LENGTH.size + _LENGTH.unpack(_at(stream, len(MAGIC), _LENGTH.size))[0])
        for part in header.parts:
            limit = max_model if part.method == "model_patch" else limits[part.name]
            contents[part.name] = _make(part, stream, base, limit, codec)
            if part.name == MANIFEST:
                if hashlib.sha256(contents[MANIFEST]).hexdigest() != header.target:
                    raise _refused("makes another manifest than it says")
                manifest = parse_manifest(contents[MANIFEST])
                limits = {entry.name: entry.size_bytes for entry in manifest.files}
                max_model = manifest.model.size_bytes
    write_bundle(out, contents)
    return open_bundle(out)


def apply_patch(base: bytes, sections: tuple[bytes, bytes, bytes], size_bytes: int) -> bytes:
    """Apply a bsdiff patch.

    Args:
        base: The old file.
        sections: Control, differences, insertions.
        size_bytes: Of the new file.

    Raises:
        IntegrityError: It reaches outside the old file, or does not make `size_bytes`.
    """
    control, differences, insertions = sections
    if len(control) % _TRIPLE_BYTES:
        raise _refused("has a control block that is no list of triples")
    old = np.frombuffer(base, np.uint8)
    added = np.frombuffer(differences, np.uint8)
    new = np.empty(size_bytes, np.uint8)
    at = at_old = at_added = at_inserted = 0
    for num_add, num_insert, move in _triples(control):
        if min(num_add, num_insert) < 0 or num_add + num_insert > size_bytes - at:
            raise _refused("makes more than it says")
        if num_add:
            if not 0 <= at_old <= old.size - num_add or at_added + num_add > added.size:
                raise _refused("reaches outside the old file")
            new[at : at + num_add] = old[at_old : at_old + num_add] + added[at_added : at_added + num_add]
        at, at_old, at_added = at + num_add, at_old + num_add + move, at_added + num_add
        if num_insert:
            piece = insertions[at_inserted : at_inserted + num_insert]
            if len(piece) < num_insert:
                raise _refused("inserts more than it holds")
            new[at : at + num_insert] = np.frombuffer(piece, np.uint8)
            at, at_inserted = at + num_insert, at_inserted + num_insert
    if (at, at_added, at_inserted) != (size_bytes, added.size, len(insertions)):
        raise _refused(f"makes {at:,} bytes, expected {size_bytes:,}")
    return new.tobytes()


def _triples(control: bytes) -> list[tuple[int, int, int]]:
    """Bsdiff's integers: the sign is the highest bit, the rest is the magnitude."""
    numbers = [-(raw & ~_SIGN) if raw & _SIGN else raw for (raw,) in _INTEGER.iter_unpack(control)]
    return [(numbers[at], numbers[at + 1], numbers[at + 2]) for at in range(0, len(numbers), 3)]


def _make(part: Part, stream: IO[bytes], base: Bundle, limit: int, codec: ModelCodec) -> bytes:
    """One file of the new release, at most `limit` bytes (of the unpacked model, for a patch of it)."""
    if part.method == "same":
        check_size(part.name, base.manifest.file(part.name).size_bytes if part.name != MANIFEST else limit)
        return read_file(base, part.name)
    if part.method == "full":
        return _decompress(stream, part.sections[0], limit)
    control = _decompress(stream, part.sections[0], MAX_CONTROL_BYTES)
    added = _decompress(stream, part.sections[1], limit)
    inserted = _decompress(stream, part.sections[2], limit)
    old = read_file(base, part.name)
    if part.method == "model_patch":
        old = codec.unpack(old, base.manifest.model.size_bytes)
    size_bytes = len(added) + len(inserted)
    if size_bytes > limit:
        raise _refused(f"makes {size_bytes:,} bytes of {part.name}, allowed {limit:,}")
    new = apply_patch(old, (control, added, inserted), size_bytes)
    return codec.pack(new) if part.method == "model_patch" else new


def _decompress(stream: IO[bytes], section: Section, limit: int) -> bytes:
    """Decompress one section, never beyond what it says, which is never beyond `limit`."""
    if not (0 <= section.size_bytes <= limit and 0 <= section.packed_bytes <= limit + MAX_HEADER_BYTES):
        raise _refused(f"has a section of {section.size_bytes:,} bytes, allowed {limit:,}")
    packed = stream.read(section.packed_bytes)
    if section.codec == "raw":
        content = packed
    else:
        try:
            decoder = (
                bz2.BZ2Decompressor()
                if section.codec == "bz2"
                else lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
            )
            content = decoder.decompress(packed, section.size_bytes + 1)
        except (OSError, ValueError, EOFError, lzma.LZMAError) as error:
            raise _refused(f"has a damaged section: {error}") from error
    if len(packed) != section.packed_bytes or len(content) != section.size_bytes:
        raise _refused(f"has a section that does not make its {section.size_bytes:,} bytes")
    return content


def _read_header(stream: IO[bytes], size_bytes: int) -> DeltaHeader:
    if stream.read(len(MAGIC)) != MAGIC:
        raise _refused("is no .ekd file of this version")
    length = stream.read(_LENGTH.size)
    num_bytes = _LENGTH.unpack(length)[0] if len(length) == _LENGTH.size else 0
    if not 0 < num_bytes <= MAX_HEADER_BYTES:
        raise _refused(f"has a header of {num_bytes:,} bytes")
    try:
        header = msgspec.json.decode(stream.read(num_bytes), type=DeltaHeader)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refused(f"has a header that cannot be read: {error}") from error
    if tuple(part.name for part in header.parts) != NAMES:
        raise _refused(f"does not make {', '.join(NAMES)} in this order")
    for part in header.parts:
        num_sections = {"same": 0, "full": 1, "patch": 3, "model_patch": 3}[part.method]
        if len(part.sections) != num_sections or (part.method == "model_patch" and part.name != MODEL):
            raise _refused(f"cannot make {part.name} by {part.method} of {len(part.sections)} sections")
    held = sum(max(0, section.packed_bytes) for part in header.parts for section in part.sections)
    if len(MAGIC) + _LENGTH.size + num_bytes + held != size_bytes:
        raise _refused(f"has {size_bytes:,} bytes, its sections make another number")
    return header


def _at(stream: IO[bytes], offset: int, num_bytes: int) -> bytes:
    stream.seek(offset)
    return stream.read(num_bytes)


def _refused(what: str) -> IntegrityError:
    return IntegrityError(f"the delta {what}", hint=_HINT)
