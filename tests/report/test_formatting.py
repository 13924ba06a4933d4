from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.report.formatting import (
    format_bytes,
    format_count,
    format_date,
    format_ms,
    format_number,
    format_percent,
    format_points,
    format_seconds,
    format_small,
    percent_digits,
    plural,
    printable,
)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (99_949, "99.9 kB"),
        (999_499, "999 kB"),
        (999_999, "1.00 MB"),
        (5_400_000_000, "5.40 GB"),
    ],
)
def test_bytes_have_three_digits_and_a_unit(size: int, words: str) -> None:
    assert format_bytes(size) == words


@given(st.integers(min_value=0, max_value=10**15))
def test_bytes_stay_within_half_a_percent_of_the_truth(size: int) -> None:
    number, unit = format_bytes(size).split(" ")
    factor = {"byte": 1, "bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert float(number) * factor == pytest.approx(size, rel=0.006, abs=0.5)


@given(st.floats(min_value=0, max_value=1), st.integers(min_value=0, max_value=4))
def test_percent_says_100_only_for_all(share: float, digits: int) -> None:
    says_all = format_percent(share, digits) == f"{100:.{digits}f} %"
    assert says_all == (share * 100 == 100)


def test_percent_does_not_fail_on_what_is_not_finite() -> None:
    assert format_percent(math.nan) == "not a number"
    assert format_percent(None) == "\N{EN DASH}"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_format_fails_when_a_number_is_not_finite(value: float) -> None:
    assert format_number(value)
    assert format_ms(value)
    assert format_seconds(value)
    assert format_small(value)


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [(0.0001, "0.000"), (0.9994, "0.999"), (0.9999, "1.00"), (9.996, "10.0"), (99.96, "100"), (999.9, "1000")],
)
def test_milliseconds_keep_three_digits_at_the_seams(milliseconds: float, words: str) -> None:
    assert format_ms(milliseconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.004, "0.00 s"), (59.4, "59.4 s"), (59.6, "1 min 00 s"), (3599.7, "1 h 00 min"), (86_400, "24 h 00 min")],
)
def test_seconds_never_show_60(seconds: float, words: str) -> None:
    assert format_seconds(seconds) == words


def test_count_is_exact_below_a_thousand_and_scaled_above() -> None:
    assert [format_count(count) for count in (0, 999, 1000, 3_504_872)] == ["0", "999", "1.00 k", "3.50 M"]


def test_points_carry_a_sign_unless_they_round_to_zero() -> None:
    assert format_points(0.00001) == format_points(-0.00001) == "\N{PLUS-MINUS SIGN}0 points"
    assert format_points(-0.0321, 1) == "\N{MINUS SIGN}3.2 points"


def test_percentages_get_more_digits_when_there_are_pictures_for_them() -> None:
    assert (percent_digits(999), percent_digits(1000)) == (1, 2)


def test_plural_counts_nouns() -> None:
    assert plural(0, "layer") == "0 layers"


@given(st.text(st.characters()))
def test_printable_leaves_no_control_character_and_keeps_the_length(text: str) -> None:
    clean = printable(text)
    assert len(clean) == len(text)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in clean)
    clean.encode()


def test_date_keeps_what_it_does_not_understand() -> None:
    assert format_date("2025-01-31T12:00:00") == "2025-01-31 12:00"
    assert format_date("\x1b[0m") == "\N{REPLACEMENT CHARACTER}[0m"
