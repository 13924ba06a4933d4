"""Geometry of curves of shares: a box 100 wide and 100 high, the origin at the top left, shares from 0 to 1 upwards."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

SIDE = 100.0

NUM_TONES = 6
NUM_DASHES = 5
SHAPES = (
    "M-3,0a3,3 0 1,0 6,0a3,3 0 1,0 -6,0z",
    "M-2.7,-2.7h5.4v5.4h-5.4z",
    "M0,-3.6L3.4,2.4H-3.4z",
    "M0,-3.8L3.8,0L0,3.8L-3.8,0z",
    "M0,3.6L3.4,-2.4H-3.4z",
    "M-3.8,0h7.6M0,-3.8v7.6",
    "M-2.8,-2.8l5.6,5.6M-2.8,2.8l5.6,-5.6",
)
"""Marks, as SVG paths about the origin, in pixels: disc, square, two triangles, a lozenge, plus and times."""
_FEW = 2
"""Up to this many curves are told apart by their strokes alone."""


class LineStyle(msgspec.Struct, frozen=True, kw_only=True):
    """How a curve looks. Tones tell curves apart on a screen; dashes and marks also do without colour.

    Args:
        tone: Index of its colour, below `NUM_TONES`.
        dash: Index of its dashes, below `NUM_DASHES`; 1 is a line without gaps.
        shape: Index into `SHAPES`; None for no marks.
    """

    tone: int
    dash: int
    shape: int | None

    @property
    def has_gaps(self) -> bool:
        """Whether what lies under the curve can be seen through it."""
        return self.dash != 1


def line_styles(num_curves: int) -> tuple[LineStyle, ...]:
    """Styles of so many curves: what came before is grey and dashed, what came after it has the accent, then the rest.

    Neighbours differ in everything. Without colour, no two of 35 are the same (5 dashes and 7 shapes).

    >>> [style.dash for style in line_styles(2)], [style.dash for style in line_styles(1)]
    ([0, 1], [1])
    """
    if num_curves == 1:
        return (LineStyle(tone=1, dash=1, shape=None),)
    has_marks = num_curves > _FEW
    return tuple(
        LineStyle(tone=index % NUM_TONES, dash=index % NUM_DASHES, shape=index % len(SHAPES) if has_marks else None)
        for index in range(num_curves)
    )


class Dot(msgspec.Struct, frozen=True, kw_only=True):
    """One point of a curve, with what it says."""

    at: float
    top: float
    words: str


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One curve: its name, its style, its points as "x,y x,y ...", and the same as dots."""

    name: str
    style: LineStyle
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
        lines: The curves.
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
    for (name, shares), style in zip(curves, line_styles(len(curves)), strict=True):
        tops = [SIDE * (1 - min(1.0, max(0.0, share))) for share in shares]
        words = [
            f"{name}: {100 * share:.1f} % at {word or f'{value:g}'}"
            for share, (value, word) in zip(shares, ticks, strict=True)
        ]
        dots = tuple(
            Dot(at=round(at, 3), top=round(top, 3), words=word)
            for at, top, word in zip(places, tops, words, strict=True)
        )
        path = " ".join(f"{dot.at:g},{dot.top:g}" for dot in dots)
        lines.append(Line(name=name, style=style, path=path, dots=dots))
    spoken = "; ".join(f"{name} from {100 * shares[0]:.1f} to {100 * shares[-1]:.1f} %" for name, shares in curves)
    return LineChart(
        title=title,
        note=note,
        axis=axis,
        lines=tuple(lines),
        ticks=tuple(LineTick(word=word, at=round(at, 3)) for at, (_, word) in zip(places, ticks, strict=True) if word),
        summary=f"{title}: {spoken}",
    )
