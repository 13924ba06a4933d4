"""The report as one HTML file: no request to anywhere, styles and script inside, everything escaped."""

from __future__ import annotations

from functools import cache

import jinja2

from edgekit.core.report import Disagreement, Report
from edgekit.report import bits, charts, features, findings, shrinking
from edgekit.report.confusion import MAX_MATRIX_CLASSES, summarize_confusion
from edgekit.report.pareto import pareto_chart
from edgekit.report.pictures import picture_size
from edgekit.report.templating import build_environment, content_hash, read_source

_NUM_PICTURES_OPEN = 24
"""Pictures shown at once; the rest fold away."""


def render_html(report: Report) -> str:
    """Draw a report as a page that opens anywhere, offline. Names in it may hold any characters."""
    environment = _environment()
    css, javascript = read_source(environment, "report.css"), read_source(environment, "report.js")
    return environment.get_template("report.html.j2").render(
        report=report,
        css=css,
        javascript=javascript,
        script_hash=content_hash(javascript),
        widths=findings.bit_widths(report),
        size_chart=charts.size_chart(report),
        accuracy_chart=charts.accuracy_chart(report),
        latency_chart=charts.latency_chart(report),
        pareto_chart=None if report.bits is None else pareto_chart(report.bits),
        sqnr_chart=charts.sqnr_chart(report),
        sqnr_widths=charts.sqnr_widths(report),
        stage_widths=charts.stage_widths(report),
        mac_shares=charts.mac_shares(report),
        bits_per_weight=charts.bits_per_weight(report),
        confusion=summarize_confusion(report.confusion, report.dataset.class_names) if report.confusion else None,
        num_pictures_open=_NUM_PICTURES_OPEN,
        max_matrix_classes=MAX_MATRIX_CLASSES,
    )


@cache
def _environment() -> jinja2.Environment:
    return build_environment(
        findings=findings,
        bits=bits,
        features=features,
        shrinking=shrinking,
        outcome=outcome,
        picture_size=picture_size,
        measured_pictures=findings.measured_pictures,
    )


def outcome(picture: Disagreement) -> str:
    """Who was right about a picture, in words."""
    if picture.label is None:
        return "no label"
    if picture.float_answer[0] == picture.label:
        return "float is right"
    if picture.int8_answer[0] == picture.label:
        return "int8 is right"
    return "both are wrong"
