"""The plots of `bench_zoo.py`: accuracy against packed size and against multiply-accumulates."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from edgekit.core.storage import write_bytes
from edgekit.models.listing import ZooEntry
from edgekit.report.pareto import size_ticks
from zoo_plan import Kind
from zoo_runs import ZooRow
from zoo_tables import front

COLORS: dict[Kind, str] = {"classic": "#8a5a0a", "compact": "#0a705e"}
_INK, _RULE = "#181c1e", "#e0e4e3"
_COMPACT = ("squeezenet", "mobilenet", "shufflenet", "efficientnet_lite")
_MOST_NAMES = 16
"""Of more points, only the front and the classic ones are named."""
_AXES = (".ekz file, kB", "multiply-accumulates, M")


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One network in a plot.

    Args:
        name: Written beside it.
        kind: Its colour.
        group: What the legend calls it.
        is_counted: Whether the front is of it and its like; others are hollow.
        top1: Percent.
        interval: Percent, 95 %; None for published figures, which say none.
        costs: In the order of the axes: kilobytes, millions.
    """

    name: str
    kind: Kind
    group: str
    is_counted: bool = True
    top1: float
    interval: tuple[float, float] | None = None
    costs: tuple[float, float]


def draw_plot(rows: Sequence[ZooRow], path: Path) -> Path:
    """Draw one line of plots per dataset, as SVG or PNG by the name; the same rows give the same bytes.

    Filled dots were trained as long as the others of their dataset, hollow ones longer. The line is the front of the
    filled ones. Bars are 95 % intervals.

    Raises:
        ValueError: No rows.
    """
    datasets = dict.fromkeys(row.training.data for row in rows)
    return _draw_lines(
        {
            f"{data}: top-1 of the int8 file, %": [_measured(row) for row in rows if row.training.data == data]
            for data in datasets
        },
        path,
    )


def draw_published(entries: Sequence[ZooEntry], path: Path) -> Path:
    """Draw ImageNet accuracy as published against our packed size at 8 bits and our count of multiply-accumulates.

    Raises:
        ValueError: No entry with both.
    """
    return _draw_lines({"ImageNet: published top-1, %": [each for each in map(_published, entries) if each]}, path)


def _measured(row: ZooRow) -> Point:
    low, high = row.top1_int8.ci95
    training = row.training
    return Point(
        name=training.network,
        kind=training.kind,
        group=f"{training.kind}, {'same epochs' if training.is_short else 'trained longer'}",
        is_counted=training.is_short,
        top1=100 * row.top1_int8.top1,
        interval=(100 * low, 100 * high),
        costs=(row.ekz_bytes / 1000, row.macs / 1e6),
    )


def _published(entry: ZooEntry) -> Point | None:
    if entry.published is None or entry.published.top1 is None or entry.packed is None:
        return None
    kind: Kind = "compact" if entry.name.startswith(_COMPACT) else "classic"
    costs = (entry.packed.bits8_bytes / 1000, entry.macs / 1e6)
    return Point(name=entry.name, kind=kind, group=kind, top1=entry.published.top1, costs=costs)


def _draw_lines(lines: Mapping[str, Sequence[Point]], path: Path) -> Path:
    """One line of plots each, by what stands at its side."""
    if not any(lines.values()):
        raise ValueError("nothing to draw")
    figure = Figure(figsize=(11, 4.2 * len(lines)), layout="constrained", facecolor="white")
    grid = figure.subplots(len(lines), len(_AXES), squeeze=False, sharey="row")
    for line, (label, points) in zip(grid, lines.items(), strict=True):
        for index, (axes, title) in enumerate(zip(line, _AXES, strict=True)):
            _draw(axes, points, index)
            axes.set_xlabel(title, color=_INK)
        line[0].set_ylabel(label, color=_INK)
    shown = dict(pair for axes in grid.flat for pair in zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside upper left", ncols=len(shown), frameon=False, fontsize=8)
    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": "edgekit", "svg.fonttype": "none"}):
        kind = path.suffix.lstrip(".")
        figure.savefig(stream, format=kind, metadata={"Date": None} if kind == "svg" else None)
    write_bytes(path, stream.getvalue())
    return path


def _draw(axes: Axes, points: Sequence[Point], index: int) -> None:
    for group in dict.fromkeys(point.group for point in points):
        mine = [point for point in points if point.group == group]
        color = COLORS[mine[0].kind]
        values = [point.top1 for point in mine]
        bounds = [point.interval or (point.top1, point.top1) for point in mine]
        axes.errorbar(
            [point.costs[index] for point in mine],
            values,
            yerr=[
                [value - low for value, (low, _) in zip(values, bounds, strict=True)],
                [high - value for value, (_, high) in zip(values, bounds, strict=True)],
            ],
            fmt="o",
            color=color,
            markerfacecolor=color if mine[0].is_counted else "white",
            elinewidth=0.8,
            label=group,
        )
    costs = [point.costs[index] for point in points]
    middle = math.sqrt(min(costs) * max(costs))
    counted = [point for point in points if point.is_counted]
    best = front(counted, lambda each: each.costs[index], lambda each: each.top1)
    if len(points) <= _MOST_NAMES:
        named = points
    else:
        named = [point for point in points if point in best or point.kind == "classic"]
    for point in named:
        # Words stand towards the middle, so that none is cut.
        is_left = point.costs[index] <= middle
        axes.annotate(
            point.name,
            (point.costs[index], point.top1),
            xytext=(5 if is_left else -5, 4),
            textcoords="offset points",
            ha="left" if is_left else "right",
            fontsize=7,
            color=_INK,
        )
    axes.plot(
        [point.costs[index] for point in best], [point.top1 for point in best], color=_INK, linewidth=0.8, zorder=0
    )
    axes.set_xscale("log")
    axes.set_xlim(min(costs) / 1.15, max(costs) * 1.15)
    ticks = size_ticks(min(costs), max(costs))
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(color=_RULE, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
