from __future__ import annotations

import heapq
import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import IntegrityError
from edgekit.encode.classic_codes import (
    MAX_CODE_BITS,
    MAX_SYMBOLS,
    count_bits,
    optimal_lengths,
    read_lengths,
    read_symbols,
    write_lengths,
    write_symbols,
)


def huffman_bits(counts: list[int]) -> int:
    """Bits of Huffman's own algorithm, without a limit: the sum of all inner nodes."""
    heap = [count for count in counts if count]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


@given(st.lists(st.integers(0, 50), min_size=2, max_size=40).filter(lambda counts: sum(map(bool, counts)) > 1))
def test_optimal_lengths_cost_as_much_as_huffman_when_the_limit_is_far(counts: list[int]) -> None:
    lengths = optimal_lengths(np.array(counts))
    assert int(lengths.max()) < MAX_CODE_BITS
    assert count_bits(np.array(counts), lengths) == huffman_bits(counts)


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=6), st.integers(3, 4))
def test_optimal_lengths_cost_least_of_all_codes_within_the_limit(counts: list[int], limit: int) -> None:
    lengths = optimal_lengths(np.array(counts), limit)
    every = itertools.product(range(1, limit + 1), repeat=len(counts))
    codes = [code for code in every if sum(2.0**-bits for bits in code) <= 1]
    assert int(lengths.max()) <= limit
    assert count_bits(np.array(counts), lengths) == min(
        sum(n * bits for n, bits in zip(counts, code, strict=True)) for code in codes
    )


def test_optimal_lengths_hold_the_limit_when_huffman_would_not() -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 30:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    counts = np.array(fibonacci)
    lengths = optimal_lengths(counts)
    assert int(lengths.max()) == MAX_CODE_BITS
    assert sum(2.0 ** -int(bits) for bits in lengths) == 1
    assert huffman_bits(fibonacci) < count_bits(counts, lengths) < 1.001 * huffman_bits(fibonacci)


def test_optimal_lengths_use_every_code_when_all_symbols_occur() -> None:
    assert (optimal_lengths(np.ones(MAX_SYMBOLS, dtype=np.int64)) == MAX_CODE_BITS).all()


def test_symbols_are_canonical_codes_from_the_highest_bit() -> None:
    lengths = np.array([1, 3, 0, 3, 2], dtype=np.uint8)  # codes 0, 110, none, 111, 10
    symbols = np.array([0, 1, 3, 4, 0], dtype=np.uint8)
    assert write_symbols(symbols, lengths) == bytes([0b0110_1111, 0b0000_0000])


@given(st.lists(st.integers(0, 300), max_size=3000), st.integers(0, 2**32 - 1))
def test_symbols_come_back(symbols: list[int], seed: int) -> None:
    skewed = np.minimum(np.array(symbols, dtype=np.uint16), np.random.default_rng(seed).geometric(0.05, len(symbols)))
    roundtrip(skewed.astype(np.uint16), 301)


def test_symbols_come_back_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.encode.classic_codes._WRITE_SYMBOLS", 37)
    monkeypatch.setattr("edgekit.encode.classic_codes._READ_BYTES", 5)
    symbols = np.minimum(np.random.default_rng(0).geometric(0.1, 5000), 60).astype(np.uint8)
    roundtrip(symbols, 61)


def test_symbols_come_back_when_codes_are_15_bits_long() -> None:
    counts = [min(2**i, 4000) for i in range(20)]
    symbols = np.repeat(np.arange(20, dtype=np.uint8), counts)
    np.random.default_rng(1).shuffle(symbols)
    roundtrip(symbols, 20)


@pytest.mark.parametrize("lengths", [[1, 1, 1], [2, 2, 2], [2], [1, 2], [15] * 4], ids=str)
def test_code_lengths_are_refused_when_they_are_no_complete_code(lengths: list[int]) -> None:
    with pytest.raises(IntegrityError, match="code lengths that fill"):
        read_lengths(write_lengths(np.array(lengths, dtype=np.uint8)), len(lengths), "here")


def test_code_lengths_are_refused_when_the_spare_half_byte_is_used() -> None:
    with pytest.raises(IntegrityError, match="half byte"):
        read_lengths(b"\x21\x12", 3, "here")


LENGTHS = np.array([1, 2, 2], dtype=np.uint8)
ALONE = np.array([0, 1], dtype=np.uint8)
NONE = np.array([0, 0], dtype=np.uint8)


@pytest.mark.parametrize(
    ("content", "lengths", "count", "what"),
    [
        (b"\xff", LENGTHS, 9, "9 symbols in 1 bytes"),
        (b"\xff", LENGTHS, 8, "ends after 4 of 8"),
        (b"\xff\xff", LENGTHS, 4, "8 bits left"),
        (b"\xfe", LENGTHS, 3, "last 2 bits are not 0"),
        (b"\x01", LENGTHS, 8, "-1 bits left"),
        (b"\x00", LENGTHS, 0, "8 bits left"),
        (b"\x00", NONE, 0, "without a code"),
        (b"", NONE, 1, "1 symbols in 0 bytes"),
        (b"\x00\x00", ALONE, 3, "2 bytes for 3 codes"),
        (b"\x40", ALONE, 3, "a code of no symbol"),
    ],
)
def test_streams_are_refused_when_they_do_not_fit(
    content: bytes, lengths: npt.NDArray[np.uint8], count: int, what: str
) -> None:
    with pytest.raises(IntegrityError, match=f"here: .*{what}"):
        read_symbols(content, lengths, count, "here")


def roundtrip(symbols: npt.NDArray[np.unsignedinteger], num_symbols: int) -> None:
    counts = np.bincount(symbols, minlength=num_symbols)
    lengths = optimal_lengths(counts)
    content = write_symbols(symbols, lengths)
    assert len(content) == -(-count_bits(counts, lengths) // 8)
    restored = read_lengths(write_lengths(lengths), num_symbols, "here")
    assert np.array_equal(restored, lengths)
    assert np.array_equal(read_symbols(content, restored, symbols.size, "here"), symbols)
