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
_BUFFER_BYTES = 256 * 1024
"""Room for a few pictures of 640x480, at the beginning; larger ones make it grow."""
_FEW_BYTES = 4096

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
    """Takes the stream apart. What has come lies in one buffer that a socket can write to, and is copied once.

    Args:
        boundary: As `find_boundary` gives it; None: the first line of the stream is one.
    """

    def __init__(self, boundary: bytes | None) -> None:
        self._boundary = boundary or b""
        self._buffer = bytearray(_BUFFER_BYTES)
        self._begin = self._end = 0  # of what has come and was not given out yet
        self._searched = 0
        self.num_missing = 1
        """At least so many bytes must come before `next_part` can give more."""

    @property
    def num_kept(self) -> int:
        """Bytes that have come and were not given out yet."""
        return self._end - self._begin

    def room(self, num_bytes: int) -> memoryview:
        """Where the next bytes go, at least so many; tell `filled` how many came."""
        kept = self._end - self._begin
        is_short = len(self._buffer) - self._end < num_bytes
        if self._begin and (is_short or kept < _FEW_BYTES):  # always to the same place, which is in the cache
            self._buffer[:kept] = self._buffer[self._begin : self._end]
            self._searched = max(0, self._searched - self._begin)
            self._begin, self._end = 0, kept
        if len(self._buffer) - self._end < num_bytes:
            grown = bytearray(2 * (kept + num_bytes))
            grown[:kept] = memoryview(self._buffer)[:kept]
            self._buffer = grown
        return memoryview(self._buffer)[self._end :]

    def filled(self, num_bytes: int) -> None:
        """So many bytes were written to the last `room`."""
        self._end += num_bytes

    def feed(self, piece: bytes) -> None:
        """Append what came."""
        self.room(len(piece))[: len(piece)] = piece
        self.filled(len(piece))

    def next_part(self) -> bytes | None:
        """The body of the next complete part; None until more has come.

        Raises:
            DataError: Headers or a body larger than any picture: this is no MJPEG stream.
        """
        self.num_missing = 1
        if not self._boundary:
            self._boundary = self._read_first_line()
            if not self._boundary:
                return None
        buffer, stop = self._buffer, self._end
        start = buffer.find(self._boundary, self._begin, stop)
        if start < 0:
            self._drop(max(self._begin, stop - len(self._boundary)))
            return None
        if start > self._begin:
            self._drop(start)
        header_end = _HEADER_END.search(buffer, start + len(self._boundary), min(stop, start + _MAX_HEADER_BYTES))
        if header_end is None:
            if stop - start >= _MAX_HEADER_BYTES:
                raise DataError(f"part headers of more than {_MAX_HEADER_BYTES} bytes")
            return None
        begin = header_end.end()
        end = self._find_end(begin, _LENGTH.search(buffer, start, header_end.start() + 1))
        if end is None:
            if stop - start > MAX_JPEG_BYTES + _MAX_HEADER_BYTES:
                raise DataError(f"a part of more than {MAX_JPEG_BYTES} bytes")
            return None
        part = bytes(memoryview(buffer)[begin:end])
        self._drop(end)
        return part

    def _drop(self, end: int) -> None:
        """Forget what came before."""
        self._begin, self._searched = end, 0
        if end == self._end:
            self._begin = self._end = 0

    def _read_first_line(self) -> bytes:
        """The boundary that the stream begins with; b"" until it has come."""
        match = _FIRST_LINE.match(self._buffer, self._begin, self._end)
        if match is None and self.num_kept > 256:
            start = bytes(self._buffer[self._begin : self._begin + 16])
            raise DataError(f"begins with {start!r}, expected a boundary")
        return match[1] if match is not None else b""

    def _find_end(self, begin: int, declared: re.Match[bytes] | None) -> int | None:
        """Where the body ends; None when that has not come yet."""
        buffer, stop = self._buffer, self._end
        if declared is not None:
            length = int(declared[1])
            if length > MAX_JPEG_BYTES:
                raise DataError(f"a part of {length} bytes, at most {MAX_JPEG_BYTES}")
            end = begin + length
            if stop < end:
                self.num_missing = end - stop
                return None
            tail = bytes(buffer[end : min(stop, end + 2 + len(self._boundary))]).lstrip(b"\r\n")
            follows = not tail or self._boundary.startswith(tail) or tail.startswith(self._boundary)
            if follows or buffer.endswith(b"\xff\xd9", begin, end):
                return end  # at once: waiting for the next boundary would make each picture a whole frame old
        at = buffer.find(self._boundary, max(begin, self._searched), stop)
        if at < 0:
            self._searched = max(begin, stop - len(self._boundary))
            return self._find_jpeg_end(begin)
        self._searched = 0
        body = bytes(buffer[max(begin, at - 2) : at])
        return at - (2 if body.endswith(b"\r\n") else 1 if body.endswith(b"\n") else 0)

    def _find_jpeg_end(self, begin: int) -> int | None:
        """Where the JPEG ends that begins there, if all that has come is that and nothing more.

        The next boundary may come only with the next picture, and this one would be a whole frame old by then.
        """
        tail = bytes(self._buffer[max(begin, self._end - 4) : self._end])
        end = self._end - len(tail) + len(tail.rstrip(b"\r\n"))
        if not self._buffer.endswith(b"\xff\xd9", begin, end):
            return None
        try:
            return end if read_header(bytes(self._buffer[begin:end])).is_complete else None
        except DataError:
            return None
