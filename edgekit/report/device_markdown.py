"""A board's record as Markdown."""

from __future__ import annotations

from edgekit.core.report import Report
from edgekit.report import device_findings as words
from edgekit.report.device import DeviceReport
from edgekit.report.device_host import size_rows
from edgekit.report.formatting import DASH, format_bytes, format_ms, format_seconds, plural
from edgekit.report.markdown import escape_markdown, markdown_table

_MOST_EVENTS = 40


def render_device_markdown(report: DeviceReport, host: Report | None = None) -> str:
    """Write the same content as the page; arguments as `render_device_html`."""
    parts = [
        _head(report),
        _sizes(report, host),
        _latency(report),
        _beside_host(report),
        _facts("Camera", words.camera_facts(report)),
        _facts("Board", words.board_facts(report)),
        _facts("Drift", words.drift_facts(report)),
        _events(report),
        _sessions(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(report: DeviceReport) -> str:
    recorded = f"{format_seconds(report.seconds)} recorded in {plural(report.num_windows, 'window')}"
    until = words.format_time(report.ended_unix_s)
    lines = [f"# {escape_markdown(report.device_id)}: {words.headline(report)}", ""]
    lines.append(f"{escape_markdown(report.board)}, {recorded}, up to {until} by its own clock.")
    lines += ["", *(f"- {escape_markdown(remark)}" for remark in words.remarks(report))]
    return "\n".join(lines).rstrip()


def _sizes(report: DeviceReport, host: Report | None) -> str:
    if report.model is None:
        return ""
    rows = [
        (row.name, format_bytes(row.host_bytes), format_bytes(row.board_bytes)) for row in size_rows(report.model, host)
    ]
    facts = [(escape_markdown(fact.name), escape_markdown(fact.value)) for fact in words.model_facts(report)]
    title = f"## {escape_markdown(report.model.name)} {escape_markdown(report.model.scheme)}"
    sizes = markdown_table(("size", "host", "board"), rows)
    return f"{title}\n\n{sizes}\n\n{markdown_table(('model', ''), facts, num_left=2)}"


def _latency(report: DeviceReport) -> str:
    note = "Since the agent started last. A dash is withheld: p90 needs 64 frames, p99 662."
    return f"## Latency\n\n{markdown_table(words.STAGE_TITLES, words.stage_rows(report))}\n\n{note}"


def _beside_host(report: DeviceReport) -> str:
    inference = words.stage(report, "inference")
    if report.host is None or report.host.latency is None or report.model is None or inference is None:
        return ""
    timed = report.host.latency
    header = ("one inference", "runtime", "threads", "n", "p50 ms", "p90 ms", "p99 ms")
    rows = [
        (
            f"{escape_markdown(timed.board)} (host)",
            escape_markdown(timed.runtime),
            str(timed.num_threads),
            f"{timed.n:,}",
            *(format_ms(value) for value in (timed.p50_ms, timed.p90_ms, timed.p99_ms)),
        ),
        (
            f"{escape_markdown(report.board)} (board)",
            escape_markdown(report.model.runtime),
            str(report.model.num_threads),
            f"{inference.n:,}",
            *(format_ms(value) for value in (inference.p50_ms, inference.p90_ms, inference.p99_ms)),
        ),
    ]
    return f"{markdown_table(header, rows, num_left=2)}\n\nMedian: {words.ratio_words(report.host.ratio_p50)}."


def _facts(title: str, facts: tuple[words.Fact, ...]) -> str:
    if not facts:
        return ""
    rows = [(escape_markdown(fact.name), escape_markdown(fact.value)) for fact in facts]
    return f"## {title}\n\n{markdown_table(('fact', 'value'), rows, num_left=2)}"


def _events(report: DeviceReport) -> str:
    if not report.events:
        return ""
    rows = [(words.format_axis(event.at_s), event.kind, escape_markdown(event.text)) for event in report.events]
    left_out = f"\n\nThe last {_MOST_EVENTS} of {len(rows)}." if len(rows) > _MOST_EVENTS else ""
    return (
        f"## What happened\n\n{markdown_table(('after', 'about', 'what'), rows[-_MOST_EVENTS:], num_left=3)}{left_out}"
    )


def _sessions(report: DeviceReport) -> str:
    header = ("started", "recorded", "answers", "grabbed", "not answered", "camera lost", "release")
    rows = [
        (
            words.format_time(session.started_unix_s),
            format_seconds(session.seconds),
            f"{session.num_answers:,}",
            f"{session.num_grabbed:,}",
            f"{session.num_dropped:,}",
            str(session.num_lost),
            DASH if session.release is None else str(session.release),
        )
        for session in report.sessions
    ]
    return f"## Sessions\n\n{markdown_table(header, rows)}"
