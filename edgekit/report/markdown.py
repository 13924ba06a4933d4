"""The report as Markdown, for pull requests, READMEs and mail."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from edgekit.core.report import Report
from edgekit.report import bits, features, findings, shrinking
from edgekit.report.charts import size_chart
from edgekit.report.formatting import (
    TIMES,
    format_bytes,
    format_count,
    format_ms,
    format_number,
    format_percent,
    format_points,
    format_seconds,
    format_shape,
    percent_digits,
    plural,
    printable,
)

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#&$])")


def escape_markdown(text: str) -> str:
    r"""A name on one line, with everything escaped that Markdown or HTML would take for markup.

    >>> print(escape_markdown("a|b <script> *c*"))
    a\|b \<script\> \*c\*
    """
    return _SPECIAL.sub(r"\\\1", printable(text))


def render_markdown(report: Report) -> str:
    """Write a report as GitHub-flavoured Markdown: verdict, sizes, accuracy, agreement, latency, command."""
    blocks = [
        _head(report),
        _checks(report),
        _sizes(report),
        _accuracy(report),
        _agreement(report),
        _shrink(report),
        _bits(report),
        _latency(report),
        _run(report),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], num_left: int = 1) -> str:
    """A table whose first `num_left` columns read from the left, the others right. Cells must be escaped already."""
    rule = ["---"] * num_left + ["---:"] * (len(header) - num_left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _head(report: Report) -> str:
    dataset = report.dataset
    facts = [
        escape_markdown(report.scheme),
        f"{escape_markdown(dataset.name)} {escape_markdown(dataset.split)}, {findings.measured_pictures(dataset)}",
        f"input {format_shape(report.input_shape)}",
        f"{format_count(report.num_params)} parameters",
        f"{format_count(report.macs)} MACs",
    ]
    lines = [f"# {escape_markdown(report.model)}", "", "; ".join(facts), "", f"**{findings.verdict_sentence(report)}**"]
    if not report.trained:
        lines += ["", "The weights are random (`--untrained`): only size and latency mean something."]
    return "\n".join(lines)


def _checks(report: Report) -> str:
    if not report.checks:
        return ""
    rows = [
        (
            escape_markdown(check.name),
            "met" if check.passed else "**missed**",
            escape_markdown(check.measured),
            escape_markdown(check.bar),
            escape_markdown(check.layer or ""),
        )
        for check in report.checks
    ]
    return markdown_table(("check", "", "measured", "bar", "layer"), rows, num_left=5)


def _sizes(report: Report) -> str:
    rows = []
    for bar in size_chart(report).bars:
        factor = findings.times_smaller(report, bar.size_bytes) if bar.quantized else None
        size = "not packed yet" if bar.size_bytes is None else f"{bar.size_bytes:,}"
        rows.append((bar.name, size, "" if factor is None else f"{format_number(factor)}{TIMES}"))
    limit = findings.times_smaller(report, report.sizes.limit_bytes)
    rows.append(("order-0 limit", f"{report.sizes.limit_bytes:,}", f"{format_number(limit)}{TIMES}"))
    head = f"## Size: {format_bytes(report.sizes.tflite_bytes)} as TFLite"
    return f"{head}\n\n{markdown_table(('file', 'bytes', 'smaller'), rows)}"


def _accuracy(report: Report) -> str:
    if report.features is not None:
        said = " ".join(escape_markdown(words) for words in features.sentences(report, report.features))
        table = markdown_table(features.titles(report.features), features.rows(report, report.features))
        return f"## Features\n\n{said}\n\n{table}"
    known = findings.accuracy_rows(report)
    if not known:
        return "## Accuracy\n\nUnknown: the pictures have no labels."
    before = report.accuracy.float
    rows = []
    for name, row in known:
        digits = percent_digits(row.n)
        interval = f"{format_percent(row.ci95[0], digits)} to {format_percent(row.ci95[1], digits)}"
        change = format_points(row.top1 - before.top1, digits) if before is not None and row is not before else ""
        top5 = format_percent(row.top5, digits)
        rows.append((name, format_percent(row.top1, digits), interval, top5, change, f"{row.n:,}"))
    table = markdown_table(("file", "top-1", "95 % interval", "top-5", "change", "pictures"), rows)
    remark = findings.accuracy_remark(report)
    return f"## Accuracy\n\n{table}" + ("" if remark is None else f"\n\n{escape_markdown(remark)}")


def _agreement(report: Report) -> str:
    if report.agreement is None:
        return ""
    rows = [
        (
            name,
            beside,
            format_percent(row.top1, percent_digits(row.n)),
            f"{findings.num_disagreements(row):,} of {row.n:,}",
            f"{row.max_abs_error:.3g}",
        )
        for name, beside, row in findings.agreement_rows(report)
    ]
    table = markdown_table(("file", "beside", "same top-1", "differ", "max logit error"), rows, num_left=2)
    return f"## Agreement\n\n{table}"


def _shrink(report: Report) -> str:
    if report.shrink is None:
        return ""
    said = " ".join(escape_markdown(sentence) for sentence in shrinking.sentences(report, report.shrink))
    rows = [(row.what, row.before, row.after, row.change) for row in shrinking.comparisons(report, report.shrink)]
    parts = [f"## Pruned, shared, coded\n\n{said}", markdown_table(("", "original", "now", "change"), rows)]
    if report.shrink.channels:
        groups = [tuple(escape_markdown(cell) for cell in group) for group in shrinking.channel_rows(report.shrink)]
        parts.append(markdown_table(("layers", "channels", "stays because"), groups))
    coded = [
        (escape_markdown(row.layer), *msgspec.structs.astuple(row)[1:]) for row in shrinking.coded_rows(report.shrink)
    ]
    parts.append(markdown_table(shrinking.CODING_TITLES, coded))
    return "\n\n".join(parts)


def _bits(report: Report) -> str:
    if report.bits is None:
        return ""
    said = " ".join(escape_markdown(sentence) for sentence in bits.sentences(report, report.bits))
    parts = [f"## Grids, layer by layer\n\n{said}"]
    if report.bits.pareto:
        points = []
        for row in bits.point_rows(report.bits):
            label, *cells = (escape_markdown(str(cell)) for cell in msgspec.structs.astuple(row)[:-1])
            points.append((f"**{label}** (chosen)" if row.is_chosen else label, *cells))
        parts.append(markdown_table(bits.POINT_TITLES, points))
    if report.bits.layers:
        layers = [
            tuple(escape_markdown(cell) for cell in msgspec.structs.astuple(row)) for row in bits.grid_rows(report.bits)
        ]
        parts.append(markdown_table(bits.GRID_TITLES, layers))
    return "\n\n".join(parts)


def _latency(report: Report) -> str:
    if not report.latency:
        return ""
    rows = [
        (
            escape_markdown(row.file),
            escape_markdown(row.runtime),
            escape_markdown(row.board),
            str(row.num_threads),
            f"{row.n:,}",
            format_ms(row.p50_ms),
            format_ms(row.p90_ms),
            format_ms(row.p99_ms),
            format_ms(row.cpu_p50_ms),
        )
        for row in report.latency
    ]
    header = ("file", "runtime", "board", "threads", "queries", "p50 ms", "p90 ms", "p99 ms", "CPU p50 ms")
    least = findings.MIN_QUERIES
    note = f"Batch 1, after warm-up. A dash is withheld: p90 needs {least['p90']} queries, p99 {least['p99']}."
    return f"## Latency\n\n{markdown_table(header, rows, num_left=3)}\n\n{note}"


def _run(report: Report) -> str:
    # The fence is longer than any run of backticks inside, so the command cannot close it.
    command = printable(report.command)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", command)), default=0))
    seconds = sum(stage.seconds for stage in report.stages)
    took = f"\n\n{format_seconds(seconds)} in {plural(len(report.stages), 'stage')}." if report.stages else ""
    return f"## The run\n\n{fence}console\n$ {command}\n{fence}{took}"
