"""Geometry of the plot of size against accuracy, in percent of its box. The template draws it as SVG."""

from __future__ import annotations

import math

import msgspec

from edgekit.core.measurement import wilson_interval
from edgekit.core.report import BitsReport, ParetoPoint
from edgekit.report.bits import by_size
from edgekit.report.charts import Tick, nice_ticks

_MARGIN = 0.06
"""Share of the axis that stays free at either end, so that no dot is cut."""
_STEPS = (1.0, 2.0, 5.0)
_MOST_TICKS = 5


class ParetoDot(msgspec.Struct, frozen=True, kw_only=True):
    """One model in the plot.

    Args:
        point: The model.
        value: What is drawn upwards: top-1, or agreement with float; a share.
        at: From the left.
        top: From the top.
        low: Lower end of the 95 % interval, from the top; None without an interval.
        high: Upper end of it.
        mark: Which style: "float", "int8", "chosen" or "plain".
        word: Written beside the dot; empty for none.
        side: Where the word stands: "start" (right of the dot) or "end" (left of it).
    """

    point: ParetoPoint
    value: float
    at: float
    top: float
    low: float | None
    high: float | None
    mark: str
    word: str
    side: str


class ParetoChart(msgspec.Struct, frozen=True, kw_only=True):
    """Size to the right on a logarithmic scale, accuracy upwards on one that need not start at zero.

    Args:
        title: What is drawn upwards.
        dots: From the smallest model to the largest.
        sizes: Ticks of the lower axis, in bytes, positions from the left.
        shares: Ticks of the upright axis, positions from the top.
        has_intervals: Whether intervals are drawn.
    """

    title: str
    dots: tuple[ParetoDot, ...]
    sizes: tuple[Tick, ...]
    shares: tuple[Tick, ...]
    has_intervals: bool


def pareto_chart(bits: BitsReport) -> ParetoChart | None:
    """Lay out the plot; None with fewer than two models that have a size and a value."""
    is_labelled = all(point.top1 is not None for point in bits.pareto)
    known = [(point, point.top1 if is_labelled else point.agreement) for point in by_size(bits) if point.size_bytes > 0]
    values = [(point, value) for point, value in known if value is not None and math.isfinite(value)]
    if len(values) < 2:
        return None
    intervals = [_interval(point, value) for point, value in values]
    spread = [bound for interval in intervals if interval is not None for bound in interval]
    heights = [value for _, value in values] + spread
    # Without intervals all values may be the same: a tenth of a point at either side keeps ticks apart.
    margin = 0.001 if max(heights) - min(heights) < 0.002 else 0.0
    levels = nice_ticks(max(0.0, min(heights) - margin), min(1.0, max(heights) + margin))
    first, last = values[0][0].size_bytes, values[-1][0].size_bytes
    return ParetoChart(
        title="top-1 accuracy" if is_labelled else "same top-1 as the float model",
        dots=tuple(
            _dot(point, value, interval, _across(point.size_bytes, first, last), levels)
            for (point, value), interval in zip(values, intervals, strict=True)
        ),
        sizes=tuple(Tick(value=size, at=_across(size, first, last)) for size in size_ticks(first, last)),
        shares=tuple(Tick(value=level, at=_down(level, levels)) for level in levels),
        has_intervals=bool(spread),
    )


def size_ticks(low: float, high: float) -> tuple[float, ...]:
    """At most five round sizes from `low` to `high`, for a logarithmic axis.

    >>> size_ticks(90_000, 2_800_000)
    (100000.0, 200000.0, 500000.0, 1000000.0, 2000000.0)
    >>> size_ticks(290_000, 330_000)
    (290000.0, 300000.0, 310000.0, 320000.0, 330000.0)
    """
    if high < 1.05 * low:
        return (float(low),)
    if high < 3 * low:
        near = tuple(tick for tick in nice_ticks(low, high, _MOST_TICKS - 1) if low <= tick <= high)
        return near or (float(low),)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in _STEPS if low <= step * 10.0**decade <= high]
    return tuple(ticks if len(ticks) <= _MOST_TICKS else ticks[:: math.ceil(len(ticks) / _MOST_TICKS)])


def _dot(
    point: ParetoPoint, value: float, interval: tuple[float, float] | None, at: float, levels: tuple[float, ...]
) -> ParetoDot:
    mark = "chosen" if point.is_chosen else point.kind if point.kind in {"float", "int8"} else "plain"
    words = {"chosen": "chosen", "float": "float", "int8": "int8"}
    return ParetoDot(
        point=point,
        value=value,
        at=at,
        top=_down(value, levels),
        low=None if interval is None else _down(interval[0], levels),
        high=None if interval is None else _down(interval[1], levels),
        mark=mark,
        word=words.get(mark, ""),
        side="end" if at > 50 else "start",
    )


def _interval(point: ParetoPoint, value: float) -> tuple[float, float] | None:
    # Agreement of the float model with itself is no measurement.
    if point.n < 1 or (point.kind == "float" and point.top1 is None):
        return None
    return wilson_interval(round(value * point.n), point.n)


def _across(size_bytes: float, first: float, last: float) -> float:
    """Percent from the left on a logarithmic axis with margins; the middle when all sizes are the same."""
    share = math.log(size_bytes / first) / math.log(last / first) if last > first else 0.5
    return round(100 * (_MARGIN + (1 - 2 * _MARGIN) * share), 3)


def _down(value: float, levels: tuple[float, ...]) -> float:
    """Percent from the top, kept within the box."""
    share = (value - levels[0]) / (levels[-1] - levels[0])
    return round(100 - 100 * min(1.0, max(0.0, share)), 3)
