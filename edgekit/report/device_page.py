"""A board's record as one HTML file, in the look of the run's report: no request to anywhere, everything escaped."""

from __future__ import annotations

from functools import cache

import jinja2

from edgekit.core.report import Report
from edgekit.report import device_charts, device_findings, findings
from edgekit.report.device import DeviceReport
from edgekit.report.device_host import size_rows
from edgekit.report.templating import build_environment, read_source

_MOST_EVENTS = 200
"""Events listed on the page; `--json` has all."""


def render_device_html(report: DeviceReport, host: Report | None = None) -> str:
    """Draw the page.

    Args:
        report: What the board recorded.
        host: The same run's report that `build_device_report` was given, for its sizes.
    """
    environment = _environment()
    return environment.get_template("device.html.j2").render(
        report=report,
        css=read_source(environment, "report.css") + read_source(environment, "device.css"),
        sizes=() if report.model is None else size_rows(report.model, host),
        stage_bars=device_charts.stage_bars(report.stages),
        latency_chart=device_charts.latency_chart(report),
        temperature_chart=device_charts.temperature_chart(report),
        rate_chart=device_charts.rate_chart(report),
        confidence_chart=device_charts.confidence_chart(report),
        events=report.events[-_MOST_EVENTS:],
    )


@cache
def _environment() -> jinja2.Environment:
    return build_environment(
        words=device_findings,
        format_tick=device_charts.format_tick,
        format_time=device_findings.format_time,
        format_axis=device_findings.format_axis,
        withheld_reason=findings.withheld_reason,
        min_queries=findings.MIN_QUERIES,
    )
