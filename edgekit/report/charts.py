"""Geometry of the page's charts: plain positions in percent of the drawing width. The template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from edgekit.core.report import Report
from edgekit.report.findings import accuracy_rows, num_weights, quantized_word

_NICE_STEPS = (1.0, 2.0, 5.0, 10.0)


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A mark on an axis: its value, and its position in percent of the width."""

    value: float
    at: float


class SizeBar(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of the size chart.

    Args:
        name: What the bar is of.
        size_bytes: Its size; None when there is no such file yet.
        width: Percent of the drawing width.
        quantized: Whether the order-0 limit applies to it.
    """

    name: str
    size_bytes: int | None
    width: float
    quantized: bool


class SizeChart(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes on one scale from zero; `limit_at` is where the order-0 limit lies, in percent."""

    bars: tuple[SizeBar, ...]
    limit_at: float


class Whisker(msgspec.Struct, frozen=True, kw_only=True):
    """A value with its interval. `value`, `low`, `high` are shares; `*_at` positions in percent of the width."""

    name: str
    value: float
    low: float
    high: float
    value_at: float
    low_at: float
    high_at: float


class AccuracyChart(msgspec.Struct, frozen=True, kw_only=True):
    """Top-1 with 95 % intervals on an axis that need not start at zero."""

    whiskers: tuple[Whisker, ...]
    ticks: tuple[Tick, ...]


class LatencyBar(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles of one row, positions in percent of the width; None where withheld."""

    p50_at: float
    p90_at: float | None
    p99_at: float | None
    cpu_at: float


class Lollipop(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of the SQNR profile, in percent of width (from the left) and height (from the top)."""

    name: str
    sqnr_db: float
    at: float
    top: float
    marked: bool


class SqnrChart(msgspec.Struct, frozen=True, kw_only=True):
    """SQNR along the network, on a scale from zero dB up; ticks are percent of the height from the top."""

    lollipops: tuple[Lollipop, ...]
    ticks: tuple[Tick, ...]


def nice_ticks(low: float, high: float, most: int = 5) -> tuple[float, ...]:
    """At most `most` + 1 round numbers, evenly spaced, the first at or below `low` and the last at or above `high`.

    >>> nice_ticks(0.931, 0.942)
    (0.93, 0.935, 0.94, 0.945)
    >>> nice_ticks(0, 37)
    (0.0, 10.0, 20.0, 30.0, 40.0)
    """
    span = max(high - low, 1e-9)
    exponent = 10.0 ** math.floor(math.log10(span / most))
    for nice in (step * scale for scale in (exponent, exponent * 10) for step in _NICE_STEPS):
        first, last = math.floor(low / nice + 1e-9), math.ceil(high / nice - 1e-9)
        if last - first <= most:
            return tuple(round(index * nice, 12) for index in range(first, max(last, first + 1) + 1))
    return (low, high)


def size_chart(report: Report) -> SizeChart:
    """Bars of every file that the run wrote, and the place of the order-0 limit."""
    sizes, word = report.sizes, quantized_word(report)
    rows = (
        ("float ONNX", sizes.float_bytes, False),
        (f"{word} ONNX", sizes.onnx_bytes, True),
        (f"{word} TFLite", sizes.tflite_bytes, True),
        ("packed (.ekz)", sizes.ekz_bytes, True),
    )
    largest = max(1, sizes.limit_bytes, *(size or 0 for _, size, _ in rows))
    bars = tuple(
        SizeBar(name=name, size_bytes=size, width=_percent(size or 0, largest), quantized=quantized)
        for name, size, quantized in rows
    )
    return SizeChart(bars=bars, limit_at=_percent(sizes.limit_bytes, largest))


def accuracy_chart(report: Report) -> AccuracyChart | None:
    """Dots and whiskers of every file with known accuracy; None when the pictures have no labels."""
    rows = [(name, accuracy.top1, accuracy.ci95) for name, accuracy in accuracy_rows(report)]
    return whisker_chart(rows) if rows else None


def whisker_chart(rows: Sequence[tuple[str, float, tuple[float, float]]]) -> AccuracyChart:
    """Dots and whiskers of shares.

    Args:
        rows: Name, share and interval of each, one at least.
    """
    low = min(interval[0] for _, _, interval in rows)
    high = max(interval[1] for _, _, interval in rows)
    values = nice_ticks(low, high)
    first, span = values[0], values[-1] - values[0]
    whiskers = tuple(
        Whisker(
            name=name,
            value=value,
            low=interval[0],
            high=interval[1],
            value_at=_percent(value - first, span),
            low_at=_percent(interval[0] - first, span),
            high_at=_percent(interval[1] - first, span),
        )
        for name, value, interval in rows
    )
    ticks = tuple(Tick(value=value, at=_percent(value - first, span)) for value in values)
    return AccuracyChart(whiskers=whiskers, ticks=ticks)


def latency_chart(report: Report) -> tuple[LatencyBar, ...]:
    """One bar per latency row, all on one scale from zero."""
    known = [
        value
        for row in report.latency
        for value in (row.p50_ms, row.p90_ms, row.p99_ms, row.cpu_p50_ms)
        if value is not None and math.isfinite(value)
    ]
    largest = max(known, default=0.0) or 1.0
    return tuple(
        LatencyBar(
            p50_at=_percent(row.p50_ms, largest),
            p90_at=None if row.p90_ms is None else _percent(row.p90_ms, largest),
            p99_at=None if row.p99_ms is None else _percent(row.p99_ms, largest),
            cpu_at=_percent(row.cpu_p50_ms, largest),
        )
        for row in report.latency
    )


def sqnr_chart(report: Report) -> SqnrChart | None:
    """The SQNR of every layer in order; None when fewer than two were measured."""
    measured = [(row.name, row.sqnr_db) for row in report.layers if row.sqnr_db is not None]
    finite = [value for _, value in measured if math.isfinite(value)]
    if len(finite) < 2:
        return None
    values = nice_ticks(min(0.0, *finite), max(finite))
    first, span = values[0], values[-1] - values[0]
    lollipops = tuple(
        Lollipop(
            name=name,
            sqnr_db=value,
            at=100 * (index + 0.5) / len(measured),
            top=100 - _percent(value - first, span),
            marked=name == report.first_divergent_layer,
        )
        for index, (name, value) in enumerate(measured)
    )
    ticks = tuple(Tick(value=value, at=100 - _percent(value - first, span)) for value in values)
    return SqnrChart(lollipops=lollipops, ticks=ticks)


def sqnr_widths(report: Report) -> tuple[float | None, ...]:
    """Length of each layer's SQNR bar in percent of the best layer's; None where not measured."""
    finite = [row.sqnr_db for row in report.layers if row.sqnr_db is not None and math.isfinite(row.sqnr_db)]
    best = max(finite, default=0.0) or 1.0
    return tuple(None if row.sqnr_db is None else _percent(row.sqnr_db, best) for row in report.layers)


def stage_widths(report: Report) -> tuple[float, ...]:
    """Length of each stage's bar in percent of the longest."""
    return _shares([stage.seconds for stage in report.stages])


def mac_shares(report: Report) -> tuple[float, ...]:
    """MACs of each layer in percent of the whole network's."""
    total = sum(layer.macs for layer in report.layers)
    return tuple(_percent(layer.macs, total) for layer in report.layers)


def bits_per_weight(report: Report) -> tuple[float | None, ...]:
    """Order-0 entropy of each layer's integers, in bits per weight."""
    counts = [num_weights(layer) for layer in report.layers]
    return tuple(
        8 * layer.entropy_bytes / count if count else None for layer, count in zip(report.layers, counts, strict=True)
    )


def _shares(values: Sequence[float]) -> tuple[float, ...]:
    largest = max((value for value in values if math.isfinite(value)), default=0.0)
    return tuple(_percent(value, largest) for value in values)


def _percent(part: float, whole: float) -> float:
    """100 * part / whole kept within 0..100, so that no odd number can draw outside its box."""
    if math.isnan(part) or not whole > 0:
        return 0.0
    return round(min(100.0, max(0.0, 100.0 * part / whole)), 3)
