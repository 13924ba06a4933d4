"""The pictures inside a report: PNG bytes in base64, checked before they go on a page."""

from __future__ import annotations

import base64
import binascii
import struct

import msgspec

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_CHARACTERS = 32
"""Base64 characters that hold signature, IHDR length and type, width and height (24 bytes)."""

_PIXELATED_BELOW = 100
"""Pictures with a short side below this are drawn with hard pixels: that is what the model sees."""


class PictureSize(msgspec.Struct, frozen=True, kw_only=True):
    """Pixels of a picture, and whether it is small enough to show its pixels."""

    width: int
    height: int
    pixelated: bool


def picture_size(png_base64: str) -> PictureSize | None:
    """Size of a base64 PNG; None for anything else, which must not be put on a page."""
    try:
        header = base64.b64decode(png_base64[:_HEADER_CHARACTERS], validate=True)
        base64.b64decode(png_base64, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(header) < 24 or header[:8] != _PNG_SIGNATURE or header[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", header[16:24])
    return PictureSize(width=width, height=height, pixelated=min(width, height) < _PIXELATED_BELOW)
