"""The plot of `bench_zoo.py`: accuracy of the int8 file against packed size and against multiply-accumulates."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from edgekit.core.storage import write_bytes
from edgekit.report.pareto import size_ticks
from zoo_plan import Kind
from zoo_runs import ZooRow
from zoo_tables import Cost, front

COLORS: dict[Kind, str] = {"classic": "#8a5a0a", "compact": "#0a705e"}
_INK, _RULE = "#181c1e", "#e0e4e3"
_COSTS: dict[str, Cost] = {
    ".ekz file, kB": lambda row: row.ekz_bytes / 1000,
    "multiply-accumulates, M": lambda row: row.macs / 1e6,
}


def draw_plot(rows: Sequence[ZooRow], path: Path) -> Path:
    """Draw one line of plots per dataset, as SVG or PNG by the name; the same rows give the same bytes.

    Filled dots were trained as long as the others of their dataset, hollow ones longer. The line is the front of the
    filled ones. Bars are 95 % intervals.

    Raises:
        ValueError: No rows.
    """
    if not rows:
        raise ValueError("nothing to draw")
    datasets = list(dict.fromkeys(row.training.data for row in rows))
    figure = Figure(figsize=(11, 4.2 * len(datasets)), layout="constrained", facecolor="white")
    grid = figure.subplots(len(datasets), len(_COSTS), squeeze=False, sharey="row")
    for line, data in zip(grid, datasets, strict=True):
        mine = [row for row in rows if row.training.data == data]
        for axes, (title, cost) in zip(line, _COSTS.items(), strict=True):
            _draw(axes, mine, cost)
            axes.set_xlabel(title, color=_INK)
        line[0].set_ylabel(f"{data}: top-1 of the int8 file, %", color=_INK)
    shown = dict(pair for axes in grid.flat for pair in zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside upper left", ncols=len(shown), frameon=False, fontsize=8)
    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": "edgekit", "svg.fonttype": "none"}):
        kind = path.suffix.lstrip(".")
        figure.savefig(stream, format=kind, metadata={"Date": None} if kind == "svg" else None)
    write_bytes(path, stream.getvalue())
    return path


def _draw(axes: Axes, rows: Sequence[ZooRow], cost: Cost) -> None:
    for kind, color in COLORS.items():
        for is_short in (True, False):
            mine = [row for row in rows if row.training.kind == kind and row.training.is_short == is_short]
            if not mine:
                continue
            values = [100 * row.top1_int8.top1 for row in mine]
            low, high = zip(*(row.top1_int8.ci95 for row in mine), strict=True)
            below = [value - 100 * bound for value, bound in zip(values, low, strict=True)]
            above = [100 * bound - value for value, bound in zip(values, high, strict=True)]
            axes.errorbar(
                [cost(row) for row in mine],
                values,
                yerr=[below, above],
                fmt="o",
                color=color,
                markerfacecolor=color if is_short else "white",
                elinewidth=0.8,
                label=f"{kind}, {'same epochs' if is_short else 'trained longer'}",
            )
    costs = [cost(row) for row in rows]
    middle = math.sqrt(min(costs) * max(costs))
    for row in rows:
        # Words stand towards the middle, so that none is cut.
        is_left = cost(row) <= middle
        axes.annotate(
            row.training.network,
            (cost(row), 100 * row.top1_int8.top1),
            xytext=(5 if is_left else -5, 4),
            textcoords="offset points",
            ha="left" if is_left else "right",
            fontsize=7,
            color=_INK,
        )
    best = front([row for row in rows if row.training.is_short], cost)
    axes.plot(
        [cost(row) for row in best], [100 * row.top1_int8.top1 for row in best], color=_INK, linewidth=0.8, zorder=0
    )
    axes.set_xscale("log")
    axes.set_xlim(min(costs) / 1.15, max(costs) * 1.15)
    ticks = size_ticks(min(costs), max(costs))
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(color=_RULE, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
