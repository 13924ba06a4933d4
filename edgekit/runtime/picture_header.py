"""What an encoded picture claims about itself, read before anything is decoded.

A decoder believes the size in the header and allocates for it, so a 60-byte file can ask for gigabytes. The size is
therefore read here first, for the formats that edgekit takes: JPEG, PNG, WebP, BMP, GIF, TIFF, PGM and PPM.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import msgspec

from edgekit.core.errors import DataError

_STANDALONE_MARKERS = frozenset((0x01, *range(0xD0, 0xDA)))
"""JPEG markers without a length: TEM, RST0..7, SOI, EOI (ITU-T T.81, table B.1)."""

_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers that open a frame and so hold its size: SOF0..15 without DHT, JPG and DAC."""


class PictureHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The claims of one encoded picture.

    Args:
        format: "jpeg", "png", "webp", "bmp", "gif", "tiff" or "pnm".
        height: Rows in pixels, before any EXIF rotation.
        width: Columns in pixels.
        is_complete: False when the end marker is missing (JPEG, PNG); True where a format has none.
    """

    format: str
    height: int
    width: int
    is_complete: bool = True


def read_header(content: bytes) -> PictureHeader:
    """Read format and size from the first bytes of an encoded picture.

    Raises:
        DataError: Empty, no known picture format, a header cut short, or a size of 0.
    """
    if not content:
        raise DataError("empty, 0 bytes")
    for is_format, parse in _FORMATS:
        if is_format(content):
            try:
                header = parse(content)
            except (struct.error, IndexError) as error:
                raise DataError(f"header cut short, only {len(content)} bytes") from error
            if header.height < 1 or header.width < 1:
                raise DataError(f"declares {header.width}x{header.height} pixels")
            return header
    raise DataError(f"no JPEG, PNG, WebP, BMP, GIF, TIFF or PNM picture (starts with {content[:8]!r})")


def _jpeg(content: bytes) -> PictureHeader:
    """Walk the segments to the first scan. After it, FF D9 can only be the end marker (bytes FF are stuffed)."""
    height = width = 0
    offset = 2
    while True:
        while content[offset] != 0xFF:
            offset += 1
        while content[offset] == 0xFF:
            offset += 1
        marker = content[offset]
        offset += 1
        if marker in _STANDALONE_MARKERS:
            continue
        (length,) = struct.unpack_from(">H", content, offset)
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", content, offset + 3)
        if marker == 0xDA:
            complete = content.rfind(b"\xff\xd9", offset + length) >= 0  # from the end, where it is
            return PictureHeader(format="jpeg", height=height, width=width, is_complete=complete)
        offset += max(length, 2)


def _png(content: bytes) -> PictureHeader:
    width, height = struct.unpack_from(">II", content, 16)
    return PictureHeader(format="png", height=height, width=width, is_complete=content.find(b"IEND", 33) >= 0)


def _gif(content: bytes) -> PictureHeader:
    width, height = struct.unpack_from("<HH", content, 6)
    return PictureHeader(format="gif", height=height, width=width)


def _bmp(content: bytes) -> PictureHeader:
    (header_size,) = struct.unpack_from("<I", content, 14)
    if header_size == 12:  # OS/2 bitmap
        width, height = struct.unpack_from("<HH", content, 18)
    else:
        width, height = struct.unpack_from("<ii", content, 18)
    return PictureHeader(format="bmp", height=abs(height), width=width)  # negative height: rows from the top


def _webp(content: bytes) -> PictureHeader:
    chunk = content[12:16]
    if chunk == b"VP8X":
        flat = struct.unpack_from("<6B", content, 24)
        width = 1 + (flat[0] | flat[1] << 8 | flat[2] << 16)
        height = 1 + (flat[3] | flat[4] << 8 | flat[5] << 16)
    elif chunk == b"VP8L":
        (packed,) = struct.unpack_from("<I", content, 21)
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 26))
    return PictureHeader(format="webp", height=height, width=width)


def _tiff(content: bytes) -> PictureHeader:
    order = "<" if content[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(f"{order}I", content, 4)
    (num_entries,) = struct.unpack_from(f"{order}H", content, directory)
    sides = {256: 0, 257: 0}  # ImageWidth, ImageLength (TIFF 6.0, section 8)
    for index in range(num_entries):
        entry = directory + 2 + 12 * index
        tag, kind = struct.unpack_from(f"{order}HH", content, entry)
        if tag in sides:
            (sides[tag],) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", content, entry + 8)
    return PictureHeader(format="tiff", height=sides[257], width=sides[256])


_PNM_HEADER = re.compile(rb"P[2356](?:\s+#[^\n]*)*\s+(\d{1,9})(?:\s+#[^\n]*)*\s+(\d{1,9})\s")


def _pnm(content: bytes) -> PictureHeader:
    match = _PNM_HEADER.match(content[:4096])
    if match is None:
        raise IndexError
    return PictureHeader(format="pnm", height=int(match[2]), width=int(match[1]))


_FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], PictureHeader]], ...] = (
    (lambda content: content.startswith(b"\xff\xd8\xff"), _jpeg),
    (lambda content: content.startswith(b"\x89PNG\r\n\x1a\n"), _png),
    (lambda content: content.startswith(b"RIFF") and content[8:12] == b"WEBP", _webp),
    (lambda content: content.startswith(b"BM"), _bmp),
    (lambda content: content.startswith((b"GIF87a", b"GIF89a")), _gif),
    (lambda content: content.startswith((b"II*\0", b"MM\0*")), _tiff),
    (lambda content: content[:1] == b"P" and content[1:2] in (b"2", b"3", b"5", b"6"), _pnm),
)
