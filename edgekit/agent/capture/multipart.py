"""The parts of a multipart/x-mixed-replace stream (MJPEG over HTTP), from bytes in pieces of any size.

Cameras are sloppy: a boundary with its dashes declared, or without; a length that is missing or wrong; bare line
feeds. So a part begins at a boundary; it is as long as its Content-Length says if a boundary
follows there or a JPEG ends there, and else ends where the next boundary is.
"""

from __future__ import annotations

import re

from edgekit.agent.camera import MAX_JPEG_BYTES
from edgekit.core.errors import DataError
from edgekit.runtime.picture_header import read_header

_MAX_HEADER_BYTES = 16 * 1024
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,12})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_BOUNDARY = re.compile(r"boundary\s*=\s*(?:\"([^\"]+)\"|([^;\s]+))", re.IGNORECASE)
_FIRST_LINE = re.compile(rb"[\r\n]*(--[^\r\n]{1,200})\r?\n")
_HEADER_END = re.compile(rb"\r?\n\r?\n")


def find_boundary(content_type: str) -> bytes | None:
    """The delimiter between the parts, with two dashes before it; None when the header names none.

    >>> find_boundary('multipart/x-mixed-replace; boundary="frame"'), find_boundary("image/jpeg")
    (b'--frame', None)
    """
    match = _BOUNDARY.search(content_type)
    if match is None:
        return None
    return b"--" + (match[1] or match[2]).encode("latin-1", "replace").lstrip(b"-")


class PartParser:
    """Takes the stream apart.

    Args:
        boundary: As `find_boundary` gives it; None: the first line of the stream is one.
    """

    def __init__(self, boundary: bytes | None) -> None:
        self._boundary = boundary or b""
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, piece: bytes) -> None:
        """Append what came."""
        self._buffer += piece

    def next_part(self) -> bytes | None:
        """The body of the next complete part; None until more has come.

        Raises:
            DataError: Headers or a body larger than any picture: this is no MJPEG stream.
        """
        buffer = self._buffer
        if not self._boundary:
            self._boundary = self._read_first_line()
            if not self._boundary:
                return None
        start = buffer.find(self._boundary)
        if start < 0:
            del buffer[: max(0, len(buffer) - len(self._boundary))]
            return None
        if start:
            del buffer[:start]
            self._searched = 0
        header_end = _HEADER_END.search(buffer, len(self._boundary), _MAX_HEADER_BYTES)
        if header_end is None:
            if len(buffer) >= _MAX_HEADER_BYTES:
                raise DataError(f"part headers of more than {_MAX_HEADER_BYTES} bytes")
            return None
        end = self._find_end(header_end.end(), _LENGTH.search(buffer, 0, header_end.start() + 1))
        if end is None:
            if len(buffer) > MAX_JPEG_BYTES + _MAX_HEADER_BYTES:
                raise DataError(f"a part of more than {MAX_JPEG_BYTES} bytes")
            return None
        part = bytes(buffer[header_end.end() : end])
        del buffer[:end]
        self._searched = 0
        return part

    def _read_first_line(self) -> bytes:
        """The boundary that the stream begins with; b"" until it has come."""
        match = _FIRST_LINE.match(self._buffer)
        if match is None and len(self._buffer) > 256:
            raise DataError(f"begins with {bytes(self._buffer[:16])!r}, expected a boundary")
        return match[1] if match is not None else b""

    def _find_end(self, begin: int, declared: re.Match[bytes] | None) -> int | None:
        """Where the body ends; None when that has not come yet."""
        buffer = self._buffer
        if declared is not None:
            length = int(declared[1])
            if length > MAX_JPEG_BYTES:
                raise DataError(f"a part of {length} bytes, at most {MAX_JPEG_BYTES}")
            end = begin + length
            if len(buffer) < end:
                return None
            tail = bytes(buffer[end : end + 2 + len(self._boundary)]).lstrip(b"\r\n")
            follows = not tail or self._boundary.startswith(tail) or tail.startswith(self._boundary)
            if follows or buffer.endswith(b"\xff\xd9", begin, end):
                return end  # at once: waiting for the next boundary would make each picture a whole frame old
        at = buffer.find(self._boundary, max(begin, self._searched))
        if at < 0:
            self._searched = max(begin, len(buffer) - len(self._boundary))
            return self._find_jpeg_end(begin)
        self._searched = 0
        body = bytes(buffer[max(begin, at - 2) : at])
        return at - (2 if body.endswith(b"\r\n") else 1 if body.endswith(b"\n") else 0)

    def _find_jpeg_end(self, begin: int) -> int | None:
        """Where the JPEG ends that begins there, if all that has come is that and nothing more.

        The next boundary may come only with the next picture, and this one would be a whole frame old by then.
        """
        tail = bytes(self._buffer[-4:])
        end = len(self._buffer) - len(tail) + len(tail.rstrip(b"\r\n"))
        if not self._buffer.endswith(b"\xff\xd9", 0, end):
            return None
        try:
            return end if read_header(bytes(self._buffer[begin:end])).is_complete else None
        except DataError:
            return None
