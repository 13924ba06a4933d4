from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import IntegrityError
from edgekit.encode.grids import Coded
from edgekit.encode.lanes import LaneDecoder, LaneEncoder
from edgekit.encode.lines import (
    MAX_LINE_LEVELS,
    Curve,
    Line,
    decode_even,
    decode_line,
    encode_even,
    encode_line,
    even_widths,
)


def decoder_of(coded: Coded, num_lanes: int) -> LaneDecoder:
    encoder = LaneEncoder(num_lanes)
    words = encoder.encode_steps(coded.freqs, coded.starts, coded.step_sizes)
    decoder = LaneDecoder(encoder.states())
    decoder.feed(words)
    return decoder


@given(
    st.binary(min_size=1, max_size=2000),
    st.integers(0, MAX_LINE_LEVELS - 256),
    st.booleans(),
    st.sampled_from([1, 16, 300]),
)
def test_line_round_trips(content: bytes, first: int, is_smooth: bool, lanes: int) -> None:
    levels = np.frombuffer(content, dtype=np.uint8)
    line = Line(levels.size, first, 256)
    coded = encode_line(levels, line, Curve(is_smooth=is_smooth), lanes)
    decoder = decoder_of(coded, lanes)
    assert (decode_line(line, Curve(is_smooth=is_smooth), decoder, lanes) == levels).all()
    assert decoder.num_words_left == 0
    assert decoder.is_at_rest


def test_line_learns_from_the_lines_before() -> None:
    levels = np.clip(np.rint(np.random.default_rng(4).normal(40, 5, 128)), 0, 79).astype(np.uint8)
    line = Line(128, 500, 80)
    curve = Curve(is_smooth=True)
    first, second = (encode_line(levels, line, curve, 16).bits for _ in range(2))
    assert second < first < 128 * np.log2(80)


def test_smooth_line_beats_a_plain_one_when_neighbours_are_alike() -> None:
    levels = np.clip(np.rint(np.random.default_rng(5).normal(120, 12, 200)), 0, 255).astype(np.uint8)
    line = Line(200, 0, 256)
    smooth, plain = (encode_line(levels, line, Curve(is_smooth=some), 16).bits for some in (True, False))
    assert smooth < 0.9 * plain


def test_line_raises_when_words_end() -> None:
    decoder = LaneDecoder(np.full(4, 1 << 16, dtype=np.uint32))
    with pytest.raises(IntegrityError, match="words end"):
        decode_line(Line(400, 0, 256), Curve(is_smooth=True), decoder, 4)


def test_curve_is_the_same_on_every_machine() -> None:
    """A change here is a change of the format: older files would no longer be read."""
    curve = Curve(is_smooth=True)
    line = Line(3, 100, 20)
    curve.fade(line)
    curve.learn(np.array([0, 7, 7]), line)
    freqs, starts = curve.frequencies(line)
    assert freqs.tolist()[:10] == EXPECTED
    assert starts.tolist()[:3] == [0, EXPECTED[0], EXPECTED[0] + EXPECTED[1]]


EXPECTED = [2487, 2002, 1517, 2002, 2487, 2972, 3942, 4924, 3942, 2972]


@given(st.lists(st.integers(1, 2**40).flatmap(lambda count: st.tuples(st.integers(0, count - 1), st.just(count)))))
def test_even_choices_round_trip(pairs: list[tuple[int, int]]) -> None:
    if not pairs:
        return
    values, counts = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    coded, low, widths = encode_even(values, counts, 16)
    decoder = decoder_of(coded, 16)
    assert (widths == even_widths(counts)).all()
    assert ((decode_even(counts, decoder, 16) | low) == values).all()
    assert decoder.is_at_rest


def test_even_choice_costs_the_logarithm_of_its_count() -> None:
    counts = np.full(1000, 5003)
    values = np.random.default_rng(6).integers(0, 5003, 1000)
    coded, _, widths = encode_even(values, counts, 16)
    assert coded.bits + widths.sum() == pytest.approx(1000 * np.log2(5003), rel=0.001)
