"""The report as one HTML file: no request to anywhere, styles and script inside, everything escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup, escape

from edgekit.core.report import Disagreement, Report
from edgekit.report import bits, charts, findings, formatting, shrinking
from edgekit.report.confusion import MAX_MATRIX_CLASSES, summarize_confusion
from edgekit.report.pareto import pareto_chart
from edgekit.report.pictures import picture_size

_NUM_PICTURES_OPEN = 24
"""Pictures shown at once; the rest fold away."""


def render_html(report: Report) -> str:
    """Draw a report as a page that opens anywhere, offline. Names in it may hold any characters."""
    environment = _environment()
    css, javascript = _source(environment, "report.css"), _source(environment, "report.js")
    return environment.get_template("report.html.j2").render(
        report=report,
        css=css,
        javascript=javascript,
        script_hash=_content_hash(javascript),
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
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgekit.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        breakable=_breakable,
        bytes=_unbroken(formatting.format_bytes),
        count=_unbroken(formatting.format_count),
        date=formatting.format_date,
        ms=formatting.format_ms,
        number=formatting.format_number,
        percent=_unbroken(formatting.format_percent),
        plain=formatting.printable,
        points=_unbroken(formatting.format_points),
        seconds=_unbroken(formatting.format_seconds),
        shape=formatting.format_shape,
        share=_without_unit,
        small=formatting.format_small,
    )
    functions: dict[str, Any] = {
        "findings": findings,
        "bits": bits,
        "shrinking": shrinking,
        "outcome": outcome,
        "percent_digits": formatting.percent_digits,
        "picture_size": picture_size,
        "measured_pictures": findings.measured_pictures,
        "plural": formatting.plural,
    }
    environment.globals.update(functions)
    return environment


def _unbroken(write: Callable[..., str]) -> Callable[..., str]:
    """The same words with spaces at which no line breaks: "732 kB" stays together."""
    return lambda *values: write(*values).replace(" ", "\N{NO-BREAK SPACE}")


def _breakable(name: str) -> Markup:
    """An escaped name that may break after its separators; copied from the page it is unchanged."""
    text = escape(formatting.printable(name))
    for separator in ("/", "."):
        text = text.replace(separator, separator + Markup("<wbr>"))
    return text


def _without_unit(share: float | None, digits: int = 2) -> str:
    return formatting.format_percent(share, digits).removesuffix(" %")


def _source(environment: jinja2.Environment, name: str) -> str:
    if environment.loader is None:
        raise TypeError("the page's environment has no loader")
    return environment.loader.get_source(environment, name)[0]


def _content_hash(script: str) -> str:
    """Hash of the page's own script for its Content-Security-Policy: no other script may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def outcome(picture: Disagreement) -> str:
    """Who was right about a picture, in words."""
    if picture.label is None:
        return "no label"
    if picture.float_answer[0] == picture.label:
        return "float is right"
    if picture.int8_answer[0] == picture.label:
        return "int8 is right"
    return "both are wrong"
