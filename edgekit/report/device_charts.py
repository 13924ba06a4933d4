"""Geometry of what a board did over time, in units of a drawing 1000 wide and 100 high that the page stretches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from edgekit.core.device_status import StageLatency
from edgekit.report.charts import Tick, nice_ticks
from edgekit.report.device import DevicePoint, DeviceReport
from edgekit.report.pareto import size_ticks

_WIDTH, _HEIGHT = 1000.0, 100.0
_HOUR_S, _MINUTE_S = 3600.0, 60.0
_STEPS_S = (10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800)
_MOST_TIME_TICKS = 6

Value = Callable[[DevicePoint], "float | None"]


class TimeLine(msgspec.Struct, frozen=True, kw_only=True):
    """One curve.

    Args:
        name: What it is of.
        style: Name of its style: "strong", "soft" or "faint".
        paths: Points "x,y x,y ..." of its pieces: it is cut where nothing was measured, and where the agent restarted.
    """

    name: str
    style: str
    paths: tuple[str, ...]


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time in which the board was slowed down, from the left."""

    at: float
    width: float


class TimeChart(msgspec.Struct, frozen=True, kw_only=True):
    """Curves over the time that the agent ran.

    Args:
        lines: The curves.
        levels: Ticks of the upright axis, positions in percent from the top.
        times: Ticks of the lower axis in seconds, positions in percent from the left.
        bands: Where the board was slowed down.
        restarts: Where the agent was started again, from the left.
        losses: Where the camera was lost, from the left.
        summary: The same in words, for those who do not see it.
    """

    lines: tuple[TimeLine, ...]
    levels: tuple[Tick, ...]
    times: tuple[Tick, ...]
    bands: tuple[Band, ...]
    restarts: tuple[float, ...]
    losses: tuple[float, ...]
    summary: str


class StageBar(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles of one stage on a common scale, in percent of the width; None where withheld."""

    p50_at: float
    p90_at: float | None
    p99_at: float | None


def latency_chart(report: DeviceReport) -> TimeChart | None:
    """End to end: median, 90th percentile and slowest of every window, on a logarithmic scale; None without answers."""
    curves: tuple[tuple[str, str, Value], ...] = (
        ("slowest", "faint", lambda point: point.max_ms),
        ("p90", "soft", lambda point: point.p90_ms),
        ("p50", "strong", lambda point: point.p50_ms),
    )
    values = _values(report, curves)
    positive = [value for value in values if value > 0]
    if not positive:
        return None
    low, high = min(positive) / 1.15, max(positive) * 1.15
    ticks = tuple(tick for tick in size_ticks(low, high) if low <= tick <= high)

    def level(value: float) -> float:
        return math.log(max(value, low) / low) / math.log(high / low)

    medians = [point.p50_ms for point in report.points if point.p50_ms is not None]
    summary = (
        f"end to end latency, medians from {min(medians):.1f} to {max(medians):.1f} ms, slowest {max(positive):.1f} ms"
    )
    return _chart(report, curves, level, ticks, summary)


def temperature_chart(report: DeviceReport) -> TimeChart | None:
    """Highest temperature of every window; None without a sensor."""
    curves: tuple[tuple[str, str, Value], ...] = (("temperature", "strong", lambda point: point.temperature_c),)
    values = _values(report, curves)
    if not values:
        return None
    summary = f"temperature from {min(values):.1f} to {max(values):.1f} degrees Celsius"
    return _linear(report, curves, nice_ticks(min(values), max(values)), summary)


def rate_chart(report: DeviceReport) -> TimeChart | None:
    """Frames per second from the camera and answered; None without windows."""
    curves: tuple[tuple[str, str, Value], ...] = (
        ("from the camera", "soft", lambda point: point.fps_in),
        ("answered", "strong", lambda point: point.fps_out),
    )
    values = _values(report, curves)
    if not values:
        return None
    return _linear(report, curves, nice_ticks(0.0, max(*values, 1.0)), f"frames per second, at most {max(values):.1f}")


def confidence_chart(report: DeviceReport) -> TimeChart | None:
    """Running mean of the confidence; None where drift is not watched."""
    curves: tuple[tuple[str, str, Value], ...] = (("mean confidence", "strong", lambda point: point.mean_confidence),)
    values = _values(report, curves)
    if not values:
        return None
    summary = f"mean confidence from {min(values):.2f} to {max(values):.2f}"
    return _linear(report, curves, nice_ticks(max(0.0, min(values) - 0.02), min(1.0, max(values) + 0.02)), summary)


def stage_bars(stages: Sequence[StageLatency]) -> tuple[StageBar, ...]:
    """One bar per stage, all on one scale from zero."""
    known = [value for row in stages for value in (row.p50_ms, row.p90_ms, row.p99_ms) if value is not None]
    largest = max(known, default=0.0) or 1.0

    def at(value: float | None) -> float | None:
        return None if value is None else round(min(100.0, 100.0 * value / largest), 3)

    return tuple(StageBar(p50_at=at(row.p50_ms) or 0.0, p90_at=at(row.p90_ms), p99_at=at(row.p99_ms)) for row in stages)


def time_ticks(seconds: float) -> tuple[float, ...]:
    """Round times from 0 on, at most seven.

    >>> time_ticks(3600)
    (0.0, 600.0, 1200.0, 1800.0, 2400.0, 3000.0, 3600.0)
    >>> time_ticks(7 * 86_400)[:2]
    (0.0, 172800.0)
    """
    step = next((step for step in _STEPS_S if seconds / step <= _MOST_TIME_TICKS), None)
    if step is None:
        step = _STEPS_S[-1] * math.ceil(seconds / _STEPS_S[-1] / _MOST_TIME_TICKS)
    return tuple(float(step * index) for index in range(int(seconds // step) + 1))


def format_tick(seconds: float) -> str:
    """A time on the axis, short.

    >>> format_tick(0), format_tick(600), format_tick(5400), format_tick(172_800)
    ('0', '10 min', '1.5 h', '2 d')
    """
    if seconds == 0:
        return "0"
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.3g} min"
    return f"{seconds / _HOUR_S:.3g} h" if seconds < 48 * _HOUR_S else f"{seconds / (24 * _HOUR_S):.3g} d"


def _values(report: DeviceReport, curves: Sequence[tuple[str, str, Value]]) -> list[float]:
    found = [read(point) for point in report.points for _, _, read in curves]
    return [value for value in found if value is not None and math.isfinite(value)]


def _linear(
    report: DeviceReport, curves: Sequence[tuple[str, str, Value]], ticks: tuple[float, ...], summary: str
) -> TimeChart:
    first, span = ticks[0], ticks[-1] - ticks[0]
    return _chart(report, curves, lambda value: (value - first) / span, ticks, summary)


def _chart(
    report: DeviceReport,
    curves: Sequence[tuple[str, str, Value]],
    level: Callable[[float], float],
    ticks: tuple[float, ...],
    summary: str,
) -> TimeChart:
    """Lay out curves; `level` says where a value lies, 0 at the bottom and 1 at the top."""
    whole_s = max(report.seconds, 1e-9)

    def across(seconds: float) -> float:
        return round(_WIDTH * min(1.0, max(0.0, seconds / whole_s)), 2)

    def down(value: float) -> float:
        return round(_HEIGHT * (1.0 - min(1.0, max(0.0, level(value)))), 2)

    return TimeChart(
        lines=tuple(
            TimeLine(name=name, style=style, paths=_paths(report.points, read, across, down))
            for name, style, read in curves
        ),
        levels=tuple(Tick(value=tick, at=down(tick)) for tick in ticks),
        times=tuple(Tick(value=tick, at=across(tick) / 10) for tick in time_ticks(report.seconds)),
        bands=_bands(report.points, across),
        restarts=tuple(across(session.begins_s) for session in report.sessions[1:]),
        losses=tuple(
            across(event.at_s) for event in report.events if event.kind == "camera" and "was lost" in event.text
        ),
        summary=summary,
    )


def _paths(
    points: Sequence[DevicePoint], read: Value, across: Callable[[float], float], down: Callable[[float], float]
) -> tuple[str, ...]:
    pieces: list[list[str]] = []
    before: DevicePoint | None = None
    for point in points:
        value = read(point)
        if value is None or not math.isfinite(value):
            before = None
            continue
        is_apart = before is None or before.session != point.session or point.begins_s - before.ends_s > _MINUTE_S
        if is_apart:
            pieces.append([])
        pieces[-1].append(f"{across((point.begins_s + point.ends_s) / 2)},{down(value)}")
        before = point
    # A piece of one point would be invisible: it becomes a dash.
    return tuple(" ".join(piece if len(piece) > 1 else [piece[0], piece[0]]) for piece in pieces)


def _bands(points: Sequence[DevicePoint], across: Callable[[float], float]) -> tuple[Band, ...]:
    stretches: list[tuple[float, float]] = []
    for point in points:
        if not point.was_slowed:
            continue
        if stretches and point.begins_s - stretches[-1][1] < 1.0:
            stretches[-1] = (stretches[-1][0], point.ends_s)
        else:
            stretches.append((point.begins_s, point.ends_s))
    return tuple(
        Band(at=across(begin), width=max(1.0, round(across(end) - across(begin), 2))) for begin, end in stretches
    )
