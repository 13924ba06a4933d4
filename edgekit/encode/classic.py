"""The coding of Deep Compression (Han, Mao and Dally 2016, arXiv:1510.00149): a `.dc` file. See docs/classic.md.

Per layer a codebook and indices into it; zeros are not stored but skipped, with relative indices of a few bits;
canonical Huffman codes over the indices and over the gaps. For comparison with `.ekz`, which is what edgekit ships.
"""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import UsageError
from edgekit.encode.classic_codes import MAX_SYMBOLS, count_bits, optimal_lengths, write_lengths, write_symbols
from edgekit.encode.classic_gaps import Indices, relative_index

F32: TypeAlias = npt.NDArray[np.float32]

MAGIC = b"\x89EDC\r\n\x1a\n"
VERSION = 1
FRONT = struct.Struct("<8sHHII")
"""Magic, version, layers, bytes of all records, CRC-32 of all before it and of the records."""

RECORD = struct.Struct("<BBBHIIIII")
"""Bytes of the name, dimensions, bits of a gap (0: none are stored), centroids, biases, stored symbols, bytes of the
symbols, bytes of the gaps, CRC-32 of the payload. Name and dimensions (uint32) follow."""

MAX_LAYERS = 4096
MAX_DIMENSIONS = 8
MAX_NAME_BYTES = 255
MAX_WEIGHTS = 1 << 30
MAX_GAP_BITS = 8


class SharedLayer(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Weights of one layer that share the values of a codebook.

    Args:
        name: Unique in a file, 1 to 255 bytes of UTF-8.
        centroids: float32 [k], rising, finite, 1 to 32,768 of them. One may be 0.0: weights of that index are zeros,
            and are not stored.
        indices: Of the weight's shape (at most 8 dimensions), each below k: uint8 if k is at most 256, else uint16.
        bias: float32 [biases], stored as it is; None when the layer has none.
    """

    name: str
    centroids: F32
    indices: Indices
    bias: F32 | None = None

    @property
    def weights(self) -> F32:
        """The weights, float32 of the layer's shape."""
        return self.centroids[self.indices]

    @property
    def zero(self) -> int | None:
        """Index of the centroid 0.0; None when there is none."""
        found = np.flatnonzero(self.centroids == 0)
        return int(found[0]) if found.size else None


class CodedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer, coded, and what it was made of.

    Args:
        name: Of the layer.
        record: What the file's header says about the layer.
        payload: Codebook, biases, code lengths and streams.
        gap_bits: Bits of a gap before coding; 0 where no gaps are stored, because there are no zeros.
        num_kept: Weights that are not zero.
        num_stored: Symbols, with the fillers.
        symbol_bits: Bits of all symbols after coding.
        coded_gap_bits: Bits of all gaps after coding.
    """

    name: str
    record: bytes
    payload: bytes
    gap_bits: int
    num_kept: int
    num_stored: int
    symbol_bits: int
    coded_gap_bits: int


def share_layer(name: str, weights: F32, bias: F32 | None = None) -> SharedLayer:
    """A layer of few distinct weights as codebook and indices. A weight of -0.0 becomes 0.0.

    Args:
        name: Name of the layer.
        weights: float32, any shape.
        bias: float32 [biases], or None.

    Raises:
        UsageError: There are more distinct weights than a codebook takes.

    >>> layer = share_layer("fc", np.array([[0.5, 0], [0, -1]], dtype=np.float32))
    >>> layer.centroids.tolist(), layer.indices.tolist()
    ([-1.0, 0.0, 0.5], [[2, 1], [1, 0]])
    """
    centroids, indices = np.unique(weights.astype(np.float32) + np.float32(0), return_inverse=True)
    if centroids.size > MAX_SYMBOLS:
        raise UsageError(
            f"layer {name!r} has {centroids.size} distinct weights, a codebook takes at most {MAX_SYMBOLS}",
            hint="share the weights first (quantize or cluster them)",
        )
    narrow = indices.reshape(weights.shape).astype(index_type(centroids.size))
    return SharedLayer(name=name, centroids=centroids, indices=narrow, bias=bias)


def encode_classic(layers: Sequence[SharedLayer], gap_bits: int = 5) -> bytes:
    """A `.dc` file of the layers.

    Args:
        layers: In the order of the network, 1 to 4,096.
        gap_bits: Bits of a relative index, 1 to 8. The authors' published SqueezeNet has 4.

    Raises:
        UsageError: A layer is not as `SharedLayer` says, two have the same name, or `gap_bits` is out of range.
    """
    return join_layers([code_layer(layer, gap_bits) for layer in layers])


def join_layers(layers: Sequence[CodedLayer]) -> bytes:
    """The file of layers that are coded already.

    Raises:
        UsageError: None, more than 4,096, or two of one name.
    """
    num_names = len({layer.name for layer in layers})
    fits = 1 <= len(layers) <= MAX_LAYERS and num_names == len(layers)
    _require(fits, f"{len(layers)} layers of {num_names} names; must be 1 to {MAX_LAYERS}, each with its own name")
    records = b"".join(layer.record for layer in layers)
    front = FRONT.pack(MAGIC, VERSION, len(layers), len(records), 0)[:-4]
    crc = struct.pack("<I", zlib.crc32(records, zlib.crc32(front)))
    return b"".join([front, crc, records, *(layer.payload for layer in layers)])


def code_layer(layer: SharedLayer, gap_bits: int) -> CodedLayer:
    """Code one layer. Raises `UsageError` as `encode_classic` does."""
    if not 1 <= gap_bits <= MAX_GAP_BITS:
        raise UsageError(f"gap_bits is {gap_bits}, must be 1 to {MAX_GAP_BITS}", hint="the paper uses 4 or 5")
    name = _check_layer(layer)
    zero = layer.zero
    flat = layer.indices.reshape(-1)
    num_kept = flat.size if zero is None else int(np.count_nonzero(flat != zero))
    symbols, gaps = flat, None
    if zero is not None and num_kept < flat.size:
        symbols, gaps = relative_index(flat, zero, gap_bits)
    symbol_lengths, symbol_stream, symbol_bits = _code(symbols, layer.centroids.size)
    gap_lengths, gap_stream, coded_gap_bits = (b"", b"", 0) if gaps is None else _code(gaps, 1 << gap_bits)
    bias = b"" if layer.bias is None else layer.bias.astype("<f4").tobytes()
    parts = [layer.centroids.astype("<f4").tobytes(), bias, symbol_lengths, symbol_stream, gap_lengths, gap_stream]
    payload = b"".join(parts)
    shape = layer.indices.shape
    stored_gap_bits = 0 if gaps is None else gap_bits
    numbers = (layer.centroids.size, len(bias) // 4, symbols.size, len(symbol_stream), len(gap_stream))
    record = RECORD.pack(len(name), len(shape), stored_gap_bits, *numbers, zlib.crc32(payload))
    return CodedLayer(
        name=layer.name,
        record=record + name + struct.pack(f"<{len(shape)}I", *shape),
        payload=payload,
        gap_bits=stored_gap_bits,
        num_kept=num_kept,
        num_stored=symbols.size,
        symbol_bits=symbol_bits,
        coded_gap_bits=coded_gap_bits,
    )


def index_type(num_centroids: int) -> type[np.uint8 | np.uint16]:
    """What indices into so many centroids are stored as."""
    return np.uint8 if num_centroids <= 256 else np.uint16


def codebook_fault(centroids: F32) -> str | None:
    """What is wrong with a codebook, or None."""
    if not np.isfinite(centroids).all():
        return "a centroid that is not finite"
    if (centroids[1:] <= centroids[:-1]).any():
        return "centroids that do not rise"
    return None


def _code(symbols: Indices, num_symbols: int) -> tuple[bytes, bytes, int]:
    """Code lengths and stream, and the bits of the stream."""
    counts = np.bincount(symbols, minlength=num_symbols)
    lengths = optimal_lengths(counts)
    return write_lengths(lengths), write_symbols(symbols, lengths), count_bits(counts, lengths)


def _check_layer(layer: SharedLayer) -> bytes:
    """The name in UTF-8, once the layer is as it should be."""
    try:
        name = layer.name.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"layer name {layer.name!r} is no text: {error}") from error
    place, k = f"layer {layer.name!r}", layer.centroids.size
    _require(1 <= len(name) <= MAX_NAME_BYTES, f"{place}: a name of {len(name)} bytes, must be 1 to {MAX_NAME_BYTES}")
    _require(
        _is_vector(layer.centroids) and k <= MAX_SYMBOLS, f"{place}: centroids must be float32, 1 to {MAX_SYMBOLS}"
    )
    fault = codebook_fault(layer.centroids)
    _require(fault is None, f"{place}: {fault}")
    indices = layer.indices
    expected = np.dtype(index_type(k))
    _require(indices.dtype == expected, f"{place}: indices are {indices.dtype}, must be {expected} with {k} centroids")
    num_weights = math.prod(indices.shape)
    fits = 1 <= num_weights <= MAX_WEIGHTS and 1 <= indices.ndim <= MAX_DIMENSIONS
    _require(fits, f"{place}: shape {indices.shape}, must be 1 to {MAX_WEIGHTS} weights in 1 to {MAX_DIMENSIONS} axes")
    _require(int(indices.max()) < k, f"{place}: index {int(indices.max())} of {k} centroids")
    has_bias = layer.bias is not None
    _require(not has_bias or _is_vector(layer.bias), f"{place}: biases must be a float32 vector, or None")
    return name


def _is_vector(array: npt.NDArray[Any] | None) -> bool:
    return array is not None and array.dtype == np.float32 and array.ndim == 1 and 1 <= array.size <= MAX_WEIGHTS


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise UsageError(what)
