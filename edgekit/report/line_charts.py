"""Geometry of curves of shares: a box 100 wide and 100 high, the origin at the top left, shares from 0 to 1 upwards."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

SIDE = 100.0


class Dot(msgspec.Struct, frozen=True, kw_only=True):
    """One point of a curve, with what it says."""

    at: float
    top: float
    words: str


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One curve: its name, its points as "x,y x,y ...", and the same as dots."""

    name: str
    path: str
    dots: tuple[Dot, ...]


class LineTick(msgspec.Struct, frozen=True, kw_only=True):
    """A word under the box, in percent from the left."""

    word: str
    at: float


class LineChart(msgspec.Struct, frozen=True, kw_only=True):
    """Curves over one axis.

    Args:
        title: Of the chart.
        note: Beside the title.
        axis: What the lower axis is.
        lines: The curves, in the order of their styles.
        ticks: Of the lower axis.
        summary: In words, for those who do not see it.
    """

    title: str
    note: str
    axis: str
    lines: tuple[Line, ...]
    ticks: tuple[LineTick, ...]
    summary: str


def line_chart(
    title: str,
    axis: str,
    ticks: Sequence[tuple[float, str]],
    curves: Sequence[tuple[str, Sequence[float]]],
    note: str = "",
) -> LineChart:
    """Lay out curves of shares.

    Args:
        title: Of the chart.
        axis: What the lower axis is.
        ticks: Value and word of each point of the axis, rising; words may be empty.
        curves: Name and shares (0..1), one share per tick.
        note: Beside the title.
    """
    first, last = ticks[0][0], ticks[-1][0]
    places = [SIDE * (value - first) / (last - first) if last > first else SIDE / 2 for value, _ in ticks]
    lines = []
    for name, shares in curves:
        tops = [SIDE * (1 - min(1.0, max(0.0, share))) for share in shares]
        words = [
            f"{name}: {100 * share:.1f} % at {word or f'{value:g}'}"
            for share, (value, word) in zip(shares, ticks, strict=True)
        ]
        dots = tuple(
            Dot(at=round(at, 3), top=round(top, 3), words=word)
            for at, top, word in zip(places, tops, words, strict=True)
        )
        lines.append(Line(name=name, path=" ".join(f"{dot.at:g},{dot.top:g}" for dot in dots), dots=dots))
    spoken = "; ".join(f"{name} from {100 * shares[0]:.1f} to {100 * shares[-1]:.1f} %" for name, shares in curves)
    return LineChart(
        title=title,
        note=note,
        axis=axis,
        lines=tuple(lines),
        ticks=tuple(LineTick(word=word, at=round(at, 3)) for at, (_, word) in zip(places, ticks, strict=True) if word),
        summary=f"{title}: {spoken}",
    )
