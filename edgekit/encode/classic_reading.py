"""Reads a `.dc` file, which may be hostile: every number is checked before it is believed. See docs/classic.md."""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
import struct
import zlib

import msgspec
import numpy as np

from edgekit.core.errors import IntegrityError
from edgekit.encode.classic import (
    FRONT,
    MAGIC,
    MAX_DIMENSIONS,
    MAX_GAP_BITS,
    MAX_LAYERS,
    MAX_WEIGHTS,
    RECORD,
    VERSION,
    SharedLayer,
    codebook_fault,
    index_type,
)
from edgekit.encode.classic_codes import MAX_SYMBOLS, read_lengths, read_symbols
from edgekit.encode.classic_gaps import Indices, place_symbols

MAX_DECODED_BYTES = 1 << 28
"""What a file may decode to unless the caller says otherwise: twice the 138 M weights of VGG-16."""

_HINT = "get the file again"


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the header says about a layer; the order is that of the file."""

    name: str
    shape: tuple[int, ...]
    gap_bits: int
    num_centroids: int
    num_biases: int
    num_stored: int
    symbol_bytes: int
    gap_bytes: int
    crc: int

    @property
    def num_weights(self) -> int:
        return math.prod(self.shape)

    @property
    def decoded_bytes(self) -> int:
        """Of indices, centroids and biases."""
        index_bytes = np.dtype(index_type(self.num_centroids)).itemsize
        return self.num_weights * index_bytes + 4 * (self.num_centroids + self.num_biases)

    @property
    def part_bytes(self) -> tuple[int, ...]:
        """Of codebook, biases, code lengths and stream of the symbols, code lengths and stream of the gaps."""
        floats = (4 * self.num_centroids, 4 * self.num_biases)
        gap_lengths = (1 << self.gap_bits) // 2 if self.gap_bits else 0
        return (*floats, (self.num_centroids + 1) // 2, self.symbol_bytes, gap_lengths, self.gap_bytes)


def decode_classic(content: bytes, max_bytes: int = MAX_DECODED_BYTES) -> tuple[SharedLayer, ...]:
    """The layers of a `.dc` file, exactly as `encode_classic` was given them.

    Args:
        content: The whole file.
        max_bytes: Most that the layers may take: indices, centroids and biases.

    Raises:
        IntegrityError: Another kind of file, a newer version, damaged, or larger than `max_bytes`.
    """
    records, offset = _read_front(content)
    decoded_bytes = sum(record.decoded_bytes for record in records)
    _require(decoded_bytes <= max_bytes, f"the layers take {decoded_bytes} bytes, at most {max_bytes} are wanted")
    expected = offset + sum(sum(record.part_bytes) for record in records)
    _require(expected == len(content), f"the file has {len(content)} bytes, its header says {expected}")
    layers: list[SharedLayer] = []
    for record in records:
        end = offset + sum(record.part_bytes)
        is_whole = zlib.crc32(memoryview(content)[offset:end]) == record.crc
        _require(is_whole, f"layer {record.name!r} is damaged (offset {offset} to {end})")
        layers.append(_decode_layer(content, offset, record))
        offset = end
    return tuple(layers)


def _read_front(content: bytes) -> tuple[list[_Record], int]:
    """Every layer's record, and where the payloads begin."""
    if content[: len(MAGIC)] != MAGIC[: len(content)]:
        raise IntegrityError(f"no .dc file: it begins with {content[:8].hex(' ')}")
    _require(len(content) >= FRONT.size, f"the file ends at offset {len(content)}, in its first {FRONT.size} bytes")
    _, version, num_layers, header_bytes, crc = FRONT.unpack_from(content)
    if version > VERSION:
        hint = "install a newer edgekit"
        raise IntegrityError(f".dc format version {version}, this edgekit reads up to {VERSION}", hint=hint)
    end = FRONT.size + header_bytes
    fits = version > 0 and 1 <= num_layers <= MAX_LAYERS
    _require(fits, f"the front is damaged (offset 8 to 12): version {version}, {num_layers} layers, 1 to {MAX_LAYERS}")
    _require(end <= len(content), f"the file ends at offset {len(content)}, in its header (offset 0 to {end})")
    header = content[FRONT.size : end]
    is_whole = zlib.crc32(header, zlib.crc32(content[: FRONT.size - 4])) == crc
    _require(is_whole, f"the header is damaged (offset 0 to {end})")
    records: list[_Record] = []
    offset = 0
    for index in range(num_layers):
        record, offset = _read_record(header, offset, f"layer {index} of {num_layers}")
        records.append(record)
    _require(offset == header_bytes, f"the header has {header_bytes} bytes, its layers take {offset}")
    _require(len({record.name for record in records}) == num_layers, "two layers have the same name")
    return records, end


def _read_record(header: bytes, offset: int, place: str) -> tuple[_Record, int]:
    """One record, and where the next begins."""
    _require(offset + RECORD.size <= len(header), f"{place}: the header ends in it")
    name_bytes, num_dimensions, gap_bits, *numbers = RECORD.unpack_from(header, offset)
    offset += RECORD.size
    end = offset + name_bytes + 4 * num_dimensions
    _require(end <= len(header), f"{place}: the header ends in its name or shape")
    _require(1 <= num_dimensions <= MAX_DIMENSIONS, f"{place}: {num_dimensions} dimensions, at most {MAX_DIMENSIONS}")
    try:
        name = header[offset : offset + name_bytes].decode()
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{place}: its name is no text: {error}", hint=_HINT) from error
    shape = struct.unpack_from(f"<{num_dimensions}I", header, offset + name_bytes)
    num_centroids, num_biases, num_stored, symbol_bytes, gap_bytes, crc = numbers
    record = _Record(
        name=name,
        shape=shape,
        gap_bits=gap_bits,
        num_centroids=num_centroids,
        num_biases=num_biases,
        num_stored=num_stored,
        symbol_bytes=symbol_bytes,
        gap_bytes=gap_bytes,
        crc=crc,
    )
    _check_record(record, place)
    return record, end


def _check_record(record: _Record, place: str) -> None:
    count, stored = record.num_weights, record.num_stored
    _require(record.name != "", f"{place}: no name")
    _require(1 <= count <= MAX_WEIGHTS, f"{place}: {count} weights, at most {MAX_WEIGHTS}")
    _require(1 <= record.num_centroids <= MAX_SYMBOLS, f"{place}: {record.num_centroids} centroids")
    _require(record.gap_bits <= MAX_GAP_BITS, f"{place}: gaps of {record.gap_bits} bits, at most {MAX_GAP_BITS}")
    is_full = stored == count or (record.gap_bits > 0 and stored < count)
    _require(is_full, f"{place}: {stored} symbols for {count} weights, gaps of {record.gap_bits} bits")
    _require(record.gap_bits > 0 or record.gap_bytes == 0, f"{place}: {record.gap_bytes} bytes of no gaps")


def _decode_layer(content: bytes, offset: int, record: _Record) -> SharedLayer:
    place = f"layer {record.name!r} at offset {offset}"
    parts: list[bytes] = []
    for size in record.part_bytes:
        parts.append(content[offset : offset + size])
        offset += size
    codebook, biases, symbol_lengths, symbol_stream, gap_lengths, gap_stream = parts
    centroids = np.frombuffer(codebook, dtype="<f4").astype(np.float32)
    fault = codebook_fault(centroids)
    _require(fault is None, f"{place}: {fault}")
    lengths = read_lengths(symbol_lengths, record.num_centroids, f"{place}, symbols")
    symbols: Indices = read_symbols(symbol_stream, lengths, record.num_stored, f"{place}, symbols")
    kind = index_type(record.num_centroids)
    if record.gap_bits:
        lengths = read_lengths(gap_lengths, 1 << record.gap_bits, f"{place}, gaps")
        gaps = read_symbols(gap_stream, lengths, record.num_stored, f"{place}, gaps")
        zeros = np.flatnonzero(centroids == 0)
        _require(zeros.size == 1, f"{place}: gaps without a centroid 0.0")
        indices: Indices = np.full(record.num_weights, zeros[0], dtype=kind)
        place_symbols(indices, symbols, gaps, place)
    else:
        indices = symbols.astype(kind)
    bias = np.frombuffer(biases, dtype="<f4").astype(np.float32) if record.num_biases else None
    return SharedLayer(name=record.name, centroids=centroids, indices=indices.reshape(record.shape), bias=bias)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise IntegrityError(what, hint=_HINT)
