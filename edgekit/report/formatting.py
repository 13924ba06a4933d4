"""Numbers as people read them. Pure; shared by the page, the terminal and the Markdown."""

# The examples show the signs that are printed.
# ruff: noqa: RUF002

from __future__ import annotations

import math
import unicodedata
from datetime import datetime

DASH = "\N{EN DASH}"
"""Stands for a value that is not there."""

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
_INFINITY = "\N{INFINITY}"
_THOUSAND = 1000.0
_BYTE_UNITS = ("kB", "MB", "GB", "TB")
_COUNT_UNITS = ("k", "M", "G", "T")
_SECONDS_PER_MINUTE = 60
_SECONDS_PER_HOUR = 3600


def format_number(value: float | None, digits: int = 2) -> str:
    """A number with a fixed count of decimals; a dash for None, words for what is not finite.

    >>> format_number(1234.5, 1), format_number(-0.25, 2), format_number(None)
    ('1,234.5', '−0.25', '–')
    """
    if value is None:
        return DASH
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return _INFINITY if value > 0 else MINUS + _INFINITY
    return f"{value:,.{digits}f}".replace("-", MINUS)


def _three_digits(value: float) -> str:
    """Three significant digits, without an exponent (value below 1000)."""
    for digits, bound in ((2, 9.995), (1, 99.95)):
        if value < bound:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    step = 0
    while value >= _THOUSAND - 0.5 and step < len(units) - 1:
        value /= _THOUSAND
        step += 1
    return f"{_three_digits(value)} {units[step]}"


def format_bytes(size_bytes: float | None) -> str:
    """Bytes in decimal units with three significant digits.

    >>> format_bytes(912), format_bytes(327_104), format_bytes(1_304_000), format_bytes(None)
    ('912 bytes', '327 kB', '1.30 MB', '–')
    """
    if size_bytes is None:
        return DASH
    if size_bytes < _THOUSAND:
        return f"{size_bytes:.0f} {'byte' if size_bytes == 1 else 'bytes'}"
    return _scaled(size_bytes / _THOUSAND, _BYTE_UNITS)


def format_count(count: int) -> str:
    """A large count with a unit and three significant digits.

    >>> format_count(950), format_count(146_000_000)
    ('950', '146 M')
    """
    return str(count) if count < _THOUSAND else _scaled(count / _THOUSAND, _COUNT_UNITS)


def format_percent(share: float | None, digits: int = 2) -> str:
    """A share of 0..1 in percent. A share below 1 is never rounded up to 100.

    >>> format_percent(0.93521), format_percent(0.99999, 1), format_percent(1.0, 1)
    ('93.52 %', '99.9 %', '100.0 %')
    """
    if share is None:
        return DASH
    percent = share * 100
    if not math.isfinite(percent):
        return format_number(percent)
    ceiling = 100 - 10.0**-digits
    if ceiling < percent < 100:
        percent = ceiling
    return f"{format_number(percent, digits)} %"


def percent_digits(n: int) -> int:
    """Decimals that n pictures can carry in a percentage: 2 from 1,000 pictures on, otherwise 1."""
    return 2 if n >= _THOUSAND else 1


def format_points(difference: float, digits: int = 2) -> str:
    """A difference of two shares in percentage points, with its sign.

    >>> format_points(-0.0012), format_points(0.003), format_points(0.0)
    ('−0.12 points', '+0.30 points', '±0 points')
    """
    rounded = round(difference * 100, digits)
    if rounded == 0:
        return "±0 points"
    sign = "+" if rounded > 0 else ""
    return f"{sign}{format_number(rounded, digits)} points"


def format_ms(milliseconds: float | None) -> str:
    """Milliseconds with three significant digits.

    >>> format_ms(0.1234), format_ms(12.34), format_ms(1234.5)
    ('0.123', '12.3', '1,234')
    """
    if milliseconds is None:
        return DASH
    if not math.isfinite(milliseconds) or milliseconds >= _THOUSAND:
        return format_number(milliseconds, 0)
    return f"{milliseconds:.3f}" if milliseconds < 0.9995 else _three_digits(milliseconds)


def format_seconds(seconds: float) -> str:
    """A duration in the unit that fits.

    >>> format_seconds(0.42), format_seconds(75.2), format_seconds(7322)
    ('0.42 s', '1 min 15 s', '2 h 02 min')
    """
    if not math.isfinite(seconds):
        return format_number(seconds)
    whole = round(seconds)
    if whole >= _SECONDS_PER_HOUR:
        return f"{whole // _SECONDS_PER_HOUR} h {whole % _SECONDS_PER_HOUR // _SECONDS_PER_MINUTE:02d} min"
    if whole >= _SECONDS_PER_MINUTE:
        return f"{whole // _SECONDS_PER_MINUTE} min {whole % _SECONDS_PER_MINUTE:02d} s"
    return f"{_three_digits(seconds)} s"


def format_small(value: float) -> str:
    """An error of any magnitude with two significant digits or two decimals.

    >>> format_small(4.81e-06), format_small(0.0), format_small(0.587)
    ('4.8e−06', '0', '0.59')
    """
    if value == 0:
        return "0"
    if math.isfinite(value) and abs(value) < 0.1:
        return f"{value:.2g}".replace("-", MINUS)
    return format_number(value)


def format_date(created: str) -> str:
    """An ISO 8601 time for reading; anything else comes back as it is.

    >>> format_date("2025-01-31T12:05:09+00:00"), format_date("yesterday")
    ('2025-01-31 12:05 UTC', 'yesterday')
    """
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return printable(created)
    zone = moment.tzname()
    return f"{moment:%Y-%m-%d %H:%M}{f' {zone}' if zone else ''}"


def format_shape(shape: tuple[int, ...]) -> str:
    """Dimensions as a product.

    >>> format_shape((64, 32, 3, 3))
    '64×32×3×3'
    """
    return TIMES.join(str(size) for size in shape) if shape else "scalar"


def printable(text: str) -> str:
    r"""A name that may come from anybody's file, on one line: control characters and lone surrogates replaced.

    A class folder called "\x1b[2J" must not clear the reader's terminal.

    >>> printable("T-shirt\n\x1b[31m")
    'T-shirt��[31m'
    """
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(character) in {"Cc", "Cs"} else character
        for character in text
    )


def plural(count: int, singular: str, several: str | None = None) -> str:
    """A count with its noun.

    >>> plural(1, "check"), plural(1200, "picture"), plural(2, "query", "queries")
    ('1 check', '1,200 pictures', '2 queries')
    """
    return f"{count:,} {singular if count == 1 else several or singular + 's'}"
