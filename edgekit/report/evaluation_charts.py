"""Geometry of ROC curves and reliability diagrams: squares 100 units wide and high, the origin at the top left."""

from __future__ import annotations

import msgspec

from edgekit.core.evaluation import Calibration, Evaluation, ModelScores, RocCurve
from edgekit.report.charts import AccuracyChart, whisker_chart
from edgekit.report.evaluation import headlines, models

_SIDE = 100.0


class RocLine(msgspec.Struct, frozen=True, kw_only=True):
    """One curve: its area, and its points as "x,y x,y ..."."""

    name: str
    is_macro: bool
    auc: float
    path: str


class ReliabilityBar(msgspec.Struct, frozen=True, kw_only=True):
    """One bin, in units of the square.

    Args:
        at: From the left.
        width: Of the bin.
        top: Of the bar of accuracy, from the top.
        confidence_top: Mean confidence, from the top.
        low: Lower end of the 95 % interval, from the top.
        high: Upper end.
        share_height: Pictures of the bin by those of the fullest, 0..100.
        words: The bin in words.
    """

    at: float
    width: float
    top: float
    confidence_top: float
    low: float
    high: float
    share_height: float
    words: str


def headline_chart(evaluation: Evaluation) -> AccuracyChart:
    """Top-1 and balanced accuracy of every model, with their intervals."""
    rows = []
    for one in models(evaluation):
        for line in headlines(evaluation, one.scores):
            name = line.title if evaluation.other is None else f"{line.title}, {one.about.given}"
            rows.append((name, line.share, line.ci95))
    return whisker_chart(rows)


def roc_lines(scores: ModelScores) -> tuple[RocLine, ...]:
    """Every curve that was kept, the macro curve last, so that it is drawn above the others."""
    lines = [
        RocLine(name=curve.name, is_macro=curve.is_macro, auc=curve.auc, path=_path(curve)) for curve in scores.roc
    ]
    return tuple(sorted(lines, key=lambda line: line.is_macro))


def reliability_bars(calibration: Calibration) -> tuple[ReliabilityBar, ...]:
    """The bins that hold pictures."""
    fullest = max(row.num_pictures for row in calibration.bins)
    bars = []
    for row in calibration.bins:
        if row.accuracy is None or row.confidence is None or row.accuracy_ci95 is None:
            continue
        bars.append(
            ReliabilityBar(
                at=_SIDE * row.low,
                width=_SIDE * (row.high - row.low),
                top=_SIDE * (1 - row.accuracy),
                confidence_top=_SIDE * (1 - row.confidence),
                low=_SIDE * (1 - row.accuracy_ci95[0]),
                high=_SIDE * (1 - row.accuracy_ci95[1]),
                share_height=_SIDE * row.num_pictures / fullest,
                words=f"confidence {row.low:.2f} to {row.high:.2f}: {row.num_pictures:,} pictures, "
                f"mean confidence {row.confidence:.3f}, right {row.accuracy:.3f}",
            )
        )
    return tuple(bars)


def _path(curve: RocCurve) -> str:
    points = zip(curve.false_positive_rate, curve.true_positive_rate, strict=True)
    return " ".join(f"{_SIDE * across:.3f},{_SIDE * (1 - up):.3f}" for across, up in points)
