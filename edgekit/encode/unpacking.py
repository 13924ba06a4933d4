"""An `.ekz` file back to the original, piece by piece, checked on the way and at the end."""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import IO, Protocol

import msgspec
import numpy as np

from edgekit.core.errors import IntegrityError
from edgekit.encode.chain import Chain
from edgekit.encode.container import read_front
from edgekit.encode.numbers import BitReader
from edgekit.encode.pieces import MAX_SIZE_BYTES, AnyPiece, Header, Section
from edgekit.encode.residue import decompress
from edgekit.encode.restoring import restore

_HINT = "get the file again"


class Sink(Protocol):
    """Where the original goes."""

    def write(self, content: bytes) -> None:
        """Append bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Bytes that were written before."""
        ...


class MemorySink:
    """A `Sink` in memory."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, content: bytes) -> None:
        """Append bytes."""
        self.content += content

    def read(self, offset: int, length: int) -> bytes:
        """Bytes that were written before."""
        return bytes(self.content[offset : offset + length])


class FileSink:
    """A `Sink` in a file that is open for reading and writing."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._end = 0

    def write(self, content: bytes) -> None:
        """Append bytes."""
        self._stream.seek(self._end)
        self._stream.write(content)
        self._end += len(content)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes that were written before."""
        self._stream.seek(offset)
        return self._stream.read(length)


class PieceBytes(msgspec.Struct, frozen=True):
    """Where a piece lies in the original, and what it takes in the `.ekz` file.

    Args:
        offset: First byte in the original.
        piece: Its description.
        coded_bytes: Words and raw bits that it took.
    """

    offset: int
    piece: AnyPiece
    coded_bytes: int


def unpack(
    stream: IO[bytes],
    size_bytes: int,
    sink: Sink,
    *,
    progress: Callable[[int], None] | None = None,
    max_bytes: int = MAX_SIZE_BYTES,
) -> tuple[Header, list[PieceBytes]]:
    """Restore the original.

    Args:
        stream: The `.ekz` file, at its start, seekable.
        size_bytes: Its size.
        sink: Where the original goes.
        progress: Told the number of original bytes that are done.
        max_bytes: Largest original that is wanted.

    Returns:
        The header, and where every piece went.

    Raises:
        IntegrityError: Anything is not as it was packed; the message says where.
    """
    header = read_front(stream, size_bytes)
    if header.size_bytes > max_bytes:
        raise IntegrityError(f"the original has {header.size_bytes:,} bytes, at most {max_bytes:,} are wanted")
    return header, _Unpacking(stream, header, sink, progress).run()


class _Unpacking:
    def __init__(self, stream: IO[bytes], header: Header, sink: Sink, progress: Callable[[int], None] | None) -> None:
        self._stream = stream
        self._header = header
        self._sink = sink
        self._progress = progress
        self._digest = hashlib.sha256()
        self._position = 0
        start = stream.tell()
        self._residue_sections: list[tuple[int, int, Section]] = []
        self._coded_sections: list[tuple[int, int, Section]] = []
        for index, section in enumerate(header.sections):
            chosen = self._coded_sections if section.num_pieces else self._residue_sections
            chosen.append((index, start, section))
            start += section.length
        self._residue = b""
        self._residue_used = 0
        self._next_residue = 0
        self._chain: Chain | None = None

    def run(self) -> list[PieceBytes]:
        placed: list[PieceBytes] = []
        pieces = iter(self._header.pieces)
        for index, start, section in self._coded_sections:
            chain = self._open(index, start, section)
            placed += [self._piece(next(pieces), chain, index) for _ in range(section.num_pieces)]
            self._close(chain, index)
        self._check_rest(len(self._coded_sections))
        self._copy_residue(self._header.size_bytes - self._position)
        if self._digest.digest() != self._header.sha256:
            raise IntegrityError("the SHA-256 of what was unpacked is not the original's", hint=_HINT)
        return placed

    def _piece(self, piece: AnyPiece, chain: Chain, section: int) -> PieceBytes:
        self._copy_residue(piece.gap)
        offset = self._position
        before = self._used(chain)
        try:
            content = restore(piece, chain, self._sink.read)
        except IntegrityError as error:
            place = f"section {section}, bytes {offset} to {offset + piece.length} of the original"
            raise IntegrityError(f"{place}: {error.message}", hint=error.hint or _HINT) from error
        if len(content) != piece.length:
            raise IntegrityError(f"section {section}: a piece of {len(content)} bytes, expected {piece.length}")
        self._write(content)
        return PieceBytes(offset, piece, self._used(chain) - before)

    def _open(self, index: int, start: int, section: Section) -> Chain:
        payload = self._read(index, start, section)
        coded = 4 * section.num_lanes
        if section.num_lanes:
            self._check_rest(index)
            self._chain = Chain(np.frombuffer(payload, dtype="<u4", count=section.num_lanes).astype(np.uint32))
        if self._chain is None:
            raise IntegrityError(f"section {index} goes on with lanes that nobody started", hint=_HINT)
        words = np.frombuffer(payload, dtype="<u2", offset=coded, count=section.num_words)
        self._chain.decoder.feed(words.astype(np.uint16))
        self._chain.raw = BitReader(payload[coded + 2 * section.num_words :])
        return self._chain

    def _close(self, chain: Chain, index: int) -> None:
        left = 2 * chain.decoder.num_words_left + chain.raw.num_left
        if left:
            raise IntegrityError(f"section {index}: {left} bytes too many", hint=_HINT)

    def _check_rest(self, index: int) -> None:
        if self._chain is not None and not self._chain.decoder.is_at_rest:
            raise IntegrityError(f"the lanes do not end where they began, before section {index}", hint=_HINT)

    def _copy_residue(self, length: int) -> None:
        while length:
            if self._residue_used == len(self._residue):
                index, start, section = self._residue_sections[self._next_residue]
                self._next_residue += 1
                self._residue = self._decompress(index, self._read(index, start, section), section)
                self._residue_used = 0
            taken = self._residue[self._residue_used : self._residue_used + length]
            self._residue_used += len(taken)
            length -= len(taken)
            self._write(taken)

    def _decompress(self, index: int, payload: bytes, section: Section) -> bytes:
        try:
            return decompress(payload, section.num_words)
        except IntegrityError as error:
            raise IntegrityError(f"section {index}: {error.message}", hint=error.hint) from error

    def _read(self, index: int, start: int, section: Section) -> bytes:
        self._stream.seek(start)
        payload = self._stream.read(section.length)
        if zlib.crc32(payload) != section.crc:
            raise IntegrityError(f"section {index} is damaged (offset {start} to {start + section.length})", hint=_HINT)
        return payload

    def _write(self, content: bytes) -> None:
        self._sink.write(content)
        self._digest.update(content)
        self._position += len(content)
        if self._progress is not None:
            self._progress(len(content))

    def _used(self, chain: Chain) -> int:
        return 2 * chain.decoder.num_words_read + chain.raw.num_read
