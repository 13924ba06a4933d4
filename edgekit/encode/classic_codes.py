"""Canonical Huffman codes of at most 15 bits: lengths, streams of bits, and back.

Lengths are optimal under the limit (package-merge: Larmore and Hirschberg 1990); codes are canonical (Schwartz and
Kallick 1964), so that a file stores lengths only. Bits stand from the highest of a byte to the lowest.
"""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import IntegrityError

I64: TypeAlias = npt.NDArray[np.int64]
U8: TypeAlias = npt.NDArray[np.uint8]
U16: TypeAlias = npt.NDArray[np.uint16]

MAX_CODE_BITS = 15
"""Longest code: a length fits half a byte, and a code with seven bits before it fits three bytes."""

MAX_SYMBOLS = 1 << MAX_CODE_BITS
"""Most symbols that codes of 15 bits can tell apart."""

_WRITE_SYMBOLS = 1 << 18
_READ_BYTES = 1 << 13
"""What is coded at a time, so that memory stays flat."""


def optimal_lengths(counts: npt.NDArray[np.integer[Any]], max_bits: int = MAX_CODE_BITS) -> U8:
    """Bits of every symbol's code, such that the whole takes the fewest bits that codes of `max_bits` allow.

    Args:
        counts: [symbols], how often each occurs; at most 2**max_bits of them do.
        max_bits: Longest code, 1 to 15.

    Returns:
        [symbols]: 0 for a symbol that does not occur, 1 for one that is alone.

    >>> optimal_lengths(np.array([8, 4, 0, 2, 1])).tolist()
    [1, 2, 0, 3, 3]
    >>> optimal_lengths(np.array([8, 4, 0, 2, 1]), max_bits=2).tolist()
    [2, 2, 0, 2, 2]
    """
    lengths = np.zeros(counts.size, dtype=np.uint8)
    used = np.flatnonzero(counts)
    if used.size < 2:
        lengths[used] = 1
        return lengths
    order = used[np.argsort(counts[used], kind="stable")]
    leaves: I64 = counts[order].astype(np.int64)
    packages = np.empty(0, dtype=np.int64)
    is_leaf: list[npt.NDArray[np.bool_]] = []
    for _ in range(max_bits):  # from the longest codes to the shortest: a package is two items of one bit more
        items = np.concatenate([leaves, packages])
        rank = np.argsort(items, kind="stable")
        is_leaf.append(rank < leaves.size)
        paired = items[rank][: items.size & ~1]
        packages = paired[0::2] + paired[1::2]
    num_taken = 2 * leaves.size - 2
    for flags in reversed(is_leaf):  # a leaf takes a bit in every list where it is taken
        num_leaves = int(np.count_nonzero(flags[:num_taken]))
        lengths[order[:num_leaves]] += 1
        num_taken = 2 * (num_taken - num_leaves)
    return lengths


def count_bits(counts: npt.NDArray[np.integer[Any]], lengths: U8) -> int:
    """Bits of a stream in which every symbol occurs so often."""
    return int((counts.astype(np.int64) * lengths).sum())


def write_lengths(lengths: U8) -> bytes:
    """Half a byte for each symbol, the low half first.

    >>> write_lengths(np.array([1, 2, 15], dtype=np.uint8)).hex()
    '210f'
    """
    pairs = np.zeros(lengths.size + lengths.size % 2, dtype=np.uint8)
    pairs[: lengths.size] = lengths
    return (pairs[0::2] | (pairs[1::2] << np.uint8(4))).tobytes()


def read_lengths(content: bytes, num_symbols: int, place: str) -> U8:
    """The inverse of `write_lengths`.

    Args:
        content: (num_symbols + 1) // 2 bytes.
        num_symbols: How many lengths.
        place: What to call it in an error.

    Raises:
        IntegrityError: They are no lengths of a complete prefix code (Kraft's sum is not 1).
    """
    packed = np.frombuffer(content, dtype=np.uint8)
    lengths: U8 = np.stack([packed & np.uint8(15), packed >> np.uint8(4)], axis=1).ravel()
    _require(not lengths[num_symbols:].any(), f"{place}: the half byte behind the code lengths is not 0")
    lengths = lengths[:num_symbols]
    used = lengths[lengths > 0].astype(np.int64)
    total = int((1 << (MAX_CODE_BITS - used)).sum())
    is_alone = used.size == 1 and int(used[0]) == 1
    is_complete = used.size == 0 or is_alone or total == MAX_SYMBOLS
    _require(is_complete, f"{place}: code lengths that fill {total} of {MAX_SYMBOLS} codes")
    return lengths


def write_symbols(symbols: npt.NDArray[np.unsignedinteger[Any]], lengths: U8) -> bytes:
    """The codes of the symbols, one after the other, with zero bits up to a whole byte.

    Args:
        symbols: [count], each with a length.
        lengths: [symbols], from `optimal_lengths`.
    """
    order, spans = _canonical(lengths)
    codes = np.zeros(lengths.size, dtype=np.int64)
    longest = int(lengths.max(initial=0))
    codes[order] = (np.cumsum(spans) - spans) >> (longest - lengths[order].astype(np.int64))
    pieces: list[bytes] = []
    rest = np.empty(0, dtype=np.uint8)
    for begin in range(0, symbols.size, _WRITE_SYMBOLS):
        chunk = symbols[begin : begin + _WRITE_SYMBOLS]
        widths = lengths[chunk].astype(np.int64)
        places = rest.size + np.cumsum(widths) - widths
        bits = np.zeros(rest.size + int(widths.sum()), dtype=np.uint8)
        bits[: rest.size] = rest
        values = codes[chunk]
        for bit in range(longest):
            long = np.flatnonzero(widths > bit)
            bits[places[long] + bit] = (values[long] >> (widths[long] - 1 - bit)) & 1
        whole = bits.size & ~7
        pieces.append(np.packbits(bits[:whole]).tobytes())
        rest = bits[whole:]
    return b"".join([*pieces, np.packbits(rest).tobytes()])


def read_symbols(content: bytes, lengths: U8, count: int, place: str) -> U16:
    """The inverse of `write_symbols`.

    For every bit of a chunk a table says which symbol would begin there and where the next would; then the chain of
    those that do begin is followed.

    Args:
        content: The stream, to its last byte.
        lengths: [symbols], from `read_lengths`.
        count: Symbols in it.
        place: What to call it in an error.

    Raises:
        IntegrityError: The stream is shorter or longer than its symbols.
    """
    num_used = int(np.count_nonzero(lengths))
    _require(count <= 8 * len(content), f"{place}: {count} symbols in {len(content)} bytes")
    _require(num_used > 0 or not content, f"{place}: {len(content)} bytes without a code")
    if num_used < 2:
        _require(len(content) == -(-count // 8), f"{place}: {len(content)} bytes for {count} codes of one bit")
        _require(not any(content), f"{place}: a code of no symbol")
        return np.full(count, int(lengths.argmax()) if count else 0, dtype=np.uint16)
    found = np.empty(count, dtype=np.uint16)
    reader = _Reader(content, lengths)
    num_found = 0
    while num_found < count:
        _require(not reader.is_at_end, f"{place}: ends after {num_found} of {count} symbols")
        chunk = reader.take(count - num_found)
        found[num_found : num_found + chunk.size] = chunk
        num_found += chunk.size
    left = 8 * len(content) - reader.position
    _require(0 <= left < 8, f"{place}: {left} bits left behind {count} symbols")
    _require(not left or not content[-1] & ((1 << left) - 1), f"{place}: the last {left} bits are not 0")
    return found


class _Reader:
    """Reads a chunk of symbols at a time.

    Args:
        content: The stream.
        lengths: [symbols], of a complete code of at least two symbols.
    """

    def __init__(self, content: bytes, lengths: U8) -> None:
        order, spans = _canonical(lengths)
        self._symbols: U16 = np.repeat(order.astype(np.uint16), spans)
        self._lengths: U8 = lengths[self._symbols]
        self._longest = int(lengths.max())
        self._bytes = np.frombuffer(content + bytes(2), dtype=np.uint8)
        self._num_bytes = len(content)
        self.position = 0

    @property
    def is_at_end(self) -> bool:
        """Whether no symbol begins any more."""
        return self.position >= 8 * self._num_bytes

    def take(self, most: int) -> U16:
        """At most so many symbols, at least one; the last may reach behind the end."""
        begin = self.position >> 3
        end = min(begin + _READ_BYTES, self._num_bytes)
        words = self._bytes[begin : end + 2].astype(np.uint32)
        words = (words[:-2] << np.uint32(16)) | (words[1:-1] << np.uint32(8)) | words[2:]
        shifts = (24 - self._longest - np.arange(8)).astype(np.uint32)
        mask = np.uint32((1 << self._longest) - 1)
        windows = ((words[:, None] >> shifts) & mask).ravel()
        following: list[int] = (np.arange(windows.size) + self._lengths[windows]).tolist()
        starts: list[int] = []
        bit = self.position & 7
        while bit < windows.size:
            starts.append(bit)
            bit = following[bit]
        del starts[most:]
        self.position = 8 * begin + following[starts[-1]]
        return self._symbols[windows[starts]]


def _canonical(lengths: U8) -> tuple[I64, I64]:
    """The symbols that have codes, in the order of these, and how many codes of the longest length each covers."""
    order = np.argsort(lengths, kind="stable")
    order = order[int(np.count_nonzero(lengths == 0)) :]
    return order, 1 << (int(lengths.max(initial=0)) - lengths[order].astype(np.int64))


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise IntegrityError(what, hint="get the file again")
