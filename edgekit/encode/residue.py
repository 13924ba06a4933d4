"""What is left of a file without its tensors: LZMA of the standard library, which measured best on model files."""

from __future__ import annotations

import lzma
from typing import Any

from edgekit.core.errors import IntegrityError

_STORED, _LZMA = 0, 1
_DICTIONARY_BYTES = 1 << 22
_SETTINGS = ((3, 0, 2), (0, 2, 2), (1, 2, 2), (2, 0, 0))
"""lc, lp, pb that are tried: text, tables of 32-bit numbers, and both."""


def compress(content: bytes) -> bytes:
    """The shortest of what is tried, with a byte in front that says which."""
    packed = [bytes([_STORED]) + content]
    for setting in _SETTINGS:
        coded = lzma.compress(content, format=lzma.FORMAT_RAW, filters=[_filter(setting)])
        packed.append(bytes([_LZMA, _pack(setting)]) + coded)
    return min(packed, key=len)


def decompress(content: bytes, size_bytes: int) -> bytes:
    """The inverse of `compress`. Never holds more than `size_bytes` and a dictionary of 4 MiB.

    Raises:
        IntegrityError: Damaged, or of another size.
    """
    if content[:1] == bytes([_STORED]):
        unpacked = content[1:]
    elif content[:1] == bytes([_LZMA]) and len(content) > 2:
        unpacked = _decompress_lzma(content, size_bytes)
    else:
        raise IntegrityError("a section of an unknown kind", hint="get the file again")
    if len(unpacked) != size_bytes:
        raise IntegrityError(f"{len(unpacked)} bytes unpacked, expected {size_bytes}", hint="get the file again")
    return unpacked


def _decompress_lzma(content: bytes, size_bytes: int) -> bytes:
    setting = _unpack(content[1])
    if setting not in _SETTINGS:
        raise IntegrityError(f"LZMA settings {setting} are none of ours", hint="get the file again")
    try:
        decompressor = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=[_filter(setting)])
        unpacked = decompressor.decompress(content[2:], max_length=size_bytes)
        if not decompressor.eof and len(unpacked) == size_bytes:
            unpacked += decompressor.decompress(b"", max_length=1)  # takes the end marker
        if not decompressor.eof or decompressor.unused_data:
            raise IntegrityError("a compressed section does not end where it should", hint="get the file again")
    except (lzma.LZMAError, EOFError) as error:
        raise IntegrityError(f"a compressed section is damaged: {error}", hint="get the file again") from error
    return unpacked


def _filter(setting: tuple[int, int, int]) -> dict[str, Any]:
    lc, lp, pb = setting
    return {
        "id": lzma.FILTER_LZMA1,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": _DICTIONARY_BYTES,
        "lc": lc,
        "lp": lp,
        "pb": pb,
    }


def _pack(setting: tuple[int, int, int]) -> int:
    lc, lp, pb = setting
    return (pb * 5 + lp) * 9 + lc


def _unpack(packed: int) -> tuple[int, int, int]:
    rest, lc = divmod(packed, 9)
    pb, lp = divmod(rest, 5)
    return lc, lp, pb
