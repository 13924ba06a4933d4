from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import IntegrityError
from edgekit.encode.grids import Grid, Peaks, decode_matrix, decode_sequence, encode_matrix, encode_sequence
from edgekit.encode.lanes import PROBABILITY_TOTAL, LaneDecoder, LaneEncoder
from edgekit.encode.numbers import (
    BitReader,
    apply_taps,
    bucket_integers,
    bucket_widths,
    fit_taps,
    join_buckets,
    read_bits,
    taps_from_bytes,
    taps_to_bytes,
    undo_taps,
    wrap,
    write_bits,
)
from edgekit.encode.tables import NUM_CONTEXTS, Tables, frequencies
from edgekit.encode.traversal import row_blocks


@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 16, 128]))
def test_matrix_round_trips_and_leaves_the_lanes_at_rest(seed: int, rows: int, columns: int, lanes: int) -> None:
    generator = np.random.default_rng(seed)
    levels = np.clip(np.rint(generator.normal(100, 30, (rows, columns))), 0, 200).astype(np.uint8)
    grid = Grid(rows, columns, 201, -100, 0, NUM_CONTEXTS, 16 * 24)
    coded = encode_matrix(levels, grid, Tables(is_flat=False), lanes)
    encoder = LaneEncoder(lanes)
    words = encoder.encode_steps(coded.freqs, coded.starts, coded.step_sizes)
    decoder = LaneDecoder(encoder.states())
    decoder.feed(words)
    assert (decode_matrix(grid, Tables(is_flat=False), decoder, lanes) == levels).all()
    assert decoder.num_words_left == 0
    assert decoder.is_at_rest


@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(2, 70), st.sampled_from([1, 16, 128]))
def test_matrix_round_trips_without_the_cells_that_are_known(seed: int, rows: int, columns: int, lanes: int) -> None:
    generator = np.random.default_rng(seed)
    levels = np.clip(np.rint(generator.normal(100, 30, (rows, columns))), 0, 200).astype(np.uint8)
    places = generator.integers(0, columns + 1, rows)
    with_peak = np.flatnonzero(places < columns)
    levels[with_peak, places[with_peak]] = 0
    grid = Grid(rows, columns, 201, -100, 0, NUM_CONTEXTS, 16 * 24)
    coded = encode_matrix(levels, grid, Tables(is_flat=False), lanes, Peaks(places))
    encoder = LaneEncoder(lanes)
    words = encoder.encode_steps(coded.freqs, coded.starts, coded.step_sizes)
    decoder = LaneDecoder(encoder.states())
    decoder.feed(words)
    assert (decode_matrix(grid, Tables(is_flat=False), decoder, lanes, Peaks(places)) == levels).all()
    assert decoder.num_words_left == 0
    assert decoder.is_at_rest


def test_known_cells_take_no_space() -> None:
    levels = np.full((64, 8), 100, dtype=np.uint8)
    grid = Grid(64, 8, 201, -100, 0, 1, 16)
    plain = encode_matrix(levels, grid, Tables(is_flat=False), 16)
    peaked = encode_matrix(levels, grid, Tables(is_flat=False), 16, Peaks(np.zeros(64, dtype=np.int64)))
    assert np.count_nonzero(peaked.freqs == PROBABILITY_TOTAL) >= 64
    assert peaked.bits < plain.bits


@given(st.binary(min_size=1, max_size=3000), st.sampled_from([1, 16, 512]))
def test_sequence_round_trips(content: bytes, lanes: int) -> None:
    levels = np.frombuffer(content, dtype=np.uint8)
    grid = Grid(1, levels.size, 256, -128)
    coded = encode_sequence(levels, grid, Tables(is_flat=True), lanes)
    encoder = LaneEncoder(lanes)
    words = encoder.encode_steps(coded.freqs, coded.starts, coded.step_sizes)
    decoder = LaneDecoder(encoder.states())
    decoder.feed(words)
    assert (decode_sequence(grid, Tables(is_flat=True), decoder, lanes) == levels).all()


def test_coder_comes_within_a_percent_of_the_entropy() -> None:
    levels = np.random.default_rng(1).binomial(20, 0.5, 200_000).astype(np.uint8)
    share = np.bincount(levels) / levels.size
    entropy = -(share[share > 0] * np.log2(share[share > 0])).sum() * levels.size
    coded = encode_sequence(levels, Grid(1, levels.size, 21, -10), Tables(is_flat=True), 256)
    encoder = LaneEncoder(256)
    words = encoder.encode_steps(coded.freqs, coded.starts, coded.step_sizes)
    assert 16 * words.size + 32 * 256 < 1.01 * entropy + 16 * 256
    assert coded.bits < 1.005 * entropy


def test_contexts_beat_one_distribution_when_rows_differ() -> None:
    generator = np.random.default_rng(2)
    spread = np.geomspace(1, 40, 200)[:, None]
    levels = np.clip(np.rint(generator.normal(127, spread, (200, 100))), 0, 254).astype(np.uint8)
    one = encode_sequence(levels.ravel(), Grid(1, levels.size, 255, -127), Tables(is_flat=True), 256).bits
    grid = Grid(200, 100, 255, -127, 0, NUM_CONTEXTS, 160)
    assert encode_matrix(levels, grid, Tables(is_flat=False), 256).bits < 0.9 * one


def test_decoder_raises_when_words_end() -> None:
    decoder = LaneDecoder(np.full(4, 1 << 16, dtype=np.uint32))
    with pytest.raises(IntegrityError, match="words end"):
        decode_sequence(Grid(1, 400, 256, -128), Tables(is_flat=True), decoder, 4)


@given(st.integers(1, 5000), st.sampled_from([1, 16, 1024]))
def test_row_blocks_cover_every_row_once(num_rows: int, lanes: int) -> None:
    blocks = list(row_blocks(num_rows, lanes))
    assert [begin for begin, _ in blocks] == [0, *(end for _, end in blocks[:-1])]
    assert blocks[-1][1] == num_rows
    assert all(0 < end - begin <= lanes for begin, end in blocks)


@given(st.lists(st.lists(st.integers(1, 1 << 30), min_size=3, max_size=3), min_size=1, max_size=5))
def test_frequencies_add_up_and_are_positive(weights: list[list[int]]) -> None:
    freqs = frequencies(np.array(weights, dtype=np.int64))
    assert (freqs.sum(axis=1) == PROBABILITY_TOTAL).all()
    assert (freqs > 0).all()


def test_distributions_are_the_same_on_every_machine() -> None:
    """A change here is a change of the format: older files would no longer be read."""
    weights = Tables(is_flat=False).save()
    assert [int(weights[:, column].sum()) for column in (0, 200, 254, 255, 256, 510)] == EXPECTED


EXPECTED = [16661, 102792, 593850, 1663911, 593850, 16661]


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=50), st.integers(0, 3))
def test_buckets_round_trip(values: list[int], leading: int) -> None:
    array = np.array(values, dtype=np.int64)
    buckets, low, widths = bucket_integers(array, leading)
    assert (bucket_widths(buckets, leading) == widths).all()
    assert (join_buckets(buckets, low, leading) == array).all()


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 40)), min_size=1, max_size=60))
def test_bits_round_trip(pairs: list[tuple[int, int]]) -> None:
    widths = np.array([width for _, width in pairs], dtype=np.int64)
    values = np.array([value & ((1 << width) - 1) for value, width in pairs], dtype=np.uint64)
    reader = BitReader(write_bits(values, widths))
    assert (read_bits(reader, widths) == values).all()
    assert reader.num_left == 0


@given(st.integers(0, 2**32 - 1), st.integers(2, 32))
def test_taps_round_trip(seed: int, columns: int) -> None:
    values = wrap(np.random.default_rng(seed).integers(-300, 300, (40, columns)))
    taps = taps_from_bytes(taps_to_bytes(fit_taps(values)), columns)
    assert (undo_taps(apply_taps(values, taps), taps) == values).all()
