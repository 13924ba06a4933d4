"""Training curves as a picture: loss, accuracy, learning rate."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from edgekit.core.errors import UsageError
from edgekit.core.history import EpochRow
from edgekit.core.storage import write_bytes
from edgekit.report.formatting import format_percent, format_seconds, plural

_ACCENT = "#0a705e"
_SOFT = "#8a9494"
_INK = "#181c1e"
_RULE = "#e0e4e3"
_FEW_POINTS = 25
"""Up to this many epochs, every point gets a dot: a single epoch would otherwise draw nothing."""


def draw_curves(history: Sequence[EpochRow], path: Path) -> Path:
    """Draw the curves of a training run as a PNG of 1500 x 450 pixels, written atomically.

    Training is grey, validation in colour; the best validation accuracy is marked. Values that are None or not
    finite are left out.

    Returns:
        The path written.

    Raises:
        UsageError: The history is empty.
        OutputError: The picture cannot be written.
    """
    if not history:
        raise UsageError("no training curves to draw: the history has no epoch", hint="train for at least one epoch")
    # Figure and canvas by hand: pyplot would keep global state and might ask for a display.
    figure = Figure(figsize=(15, 4.5), dpi=100, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    loss, top1, rate = figure.subplots(1, 3)
    _draw_loss(loss, history)
    _draw_top1(top1, history)
    _draw_rate(rate, history)
    for axes in (loss, top1, rate):
        _quieten(axes)
    figure.suptitle(_headline(history), fontsize=11, color=_INK, x=0.008, ha="left")
    stream = io.BytesIO()
    canvas.print_png(stream)
    write_bytes(path, stream.getvalue())
    return path


def _headline(history: Sequence[EpochRow]) -> str:
    seconds = sum(row.seconds for row in history)
    speeds = sorted(row.images_per_second for row in history)
    parts = [
        plural(len(history), "epoch"),
        format_seconds(seconds),
        f"median {speeds[len(speeds) // 2]:,.0f} images/s",
    ]
    best = best_epoch(history)
    if best is not None:
        parts.append(f"best validation top-1 {format_percent(best.val_top1)} in epoch {best.epoch}")
    return "   ".join(parts)


def best_epoch(history: Sequence[EpochRow]) -> EpochRow | None:
    """The epoch with the highest validation accuracy, the first of equals; None without any validation."""
    validated = [row for row in history if row.val_top1 is not None and math.isfinite(row.val_top1)]
    return max(validated, key=lambda row: row.val_top1 or 0.0, default=None)


def _draw_loss(axes: Axes, history: Sequence[EpochRow]) -> None:
    axes.set_title("Loss")
    _line(axes, history, lambda row: row.train_loss, "training", _SOFT)
    _line(axes, history, lambda row: row.val_loss, "validation", _ACCENT)
    _add_legend(axes, "upper right")


def _draw_top1(axes: Axes, history: Sequence[EpochRow]) -> None:
    axes.set_title("Top-1 accuracy")
    _line(axes, history, lambda row: row.train_top1, "training (augmented)", _SOFT)
    _line(axes, history, lambda row: row.val_top1, "validation", _ACCENT)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0))
    best = best_epoch(history)
    if best is not None and best.val_top1 is not None:
        axes.plot([best.epoch], [best.val_top1], "o", markersize=9, markerfacecolor="none", color=_ACCENT)
    _add_legend(axes, "lower right")


def _draw_rate(axes: Axes, history: Sequence[EpochRow]) -> None:
    axes.set_title("Learning rate")
    _line(axes, history, lambda row: row.learning_rate, "learning rate", _ACCENT)
    axes.set_ylim(bottom=0)


def _add_legend(axes: Axes, location: Literal["upper right", "lower right"]) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, loc=location)


def _line(
    axes: Axes, history: Sequence[EpochRow], pick: Callable[[EpochRow], float | None], label: str, colour: str
) -> None:
    points = [(row.epoch, value) for row in history if (value := pick(row)) is not None and math.isfinite(value)]
    if points:
        epochs, values = zip(*points, strict=True)
        marker = "." if len(points) <= _FEW_POINTS else ""
        axes.plot(epochs, values, color=colour, label=label, linewidth=1.8, marker=marker)


def _quieten(axes: Axes) -> None:
    axes.set_xlabel("epoch", color=_INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, axis="y", color=_RULE)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=0)
    axes.title.set_fontsize(11)
    axes.title.set_color(_INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_RULE)
