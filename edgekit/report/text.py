"""The report on a terminal: what `compress` prints at the end. Made for 80 columns."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgekit.core.features import FeaturesReport
from edgekit.core.report import BitsReport, Report, ShrinkReport
from edgekit.report import bits, features, findings, shrinking
from edgekit.report.charts import size_chart
from edgekit.report.formatting import (
    DASH,
    TIMES,
    format_bytes,
    format_ms,
    format_number,
    format_percent,
    format_points,
    percent_digits,
    printable,
)
from edgekit.report.markdown import render_markdown
from edgekit.report.terminal import quiet_table

__all__ = ["render_markdown", "render_summary"]

_BAR_CELLS = 24
_MOST_LISTED_LAYERS = 8
_STYLES = {"passed": "bold green", "failed": "bold red", "unverified": "bold"}
_MARKS = {"passed": "✓ ", "failed": "✗ ", "unverified": ""}


def render_summary(report: Report) -> RenderableType:
    """Draw sizes, accuracy, agreement, latency and the verdict as compact tables for a rich console."""
    parts: list[RenderableType] = [_title(report), _sizes(report)]
    if findings.accuracy_rows(report):
        parts.append(_accuracy(report))
    parts.append(_agreement(report) if report.features is None else _features(report, report.features))
    if report.shrink is not None:
        parts.append(_shrink(report, report.shrink))
    if report.bits is not None:
        parts.append(_bits(report, report.bits))
    if report.latency:
        parts.append(_latency(report))
    parts.append(_verdict(report))
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts[:-1]), parts[-1])


def _title(report: Report) -> Text:
    dataset = report.dataset
    text = Text(printable(report.model), style="bold")
    text.append(f"  {printable(report.scheme)}", style="not bold")
    about = f"{printable(dataset.name)} {printable(dataset.split)}, {findings.measured_pictures(dataset)}"
    text.append(f"\n{about}", style="dim not bold")
    if not report.trained:
        text.append("\nThe weights are random (--untrained): only size and latency mean something.", style="yellow")
    return text


def _sizes(report: Report) -> Table:
    table = quiet_table("size", "on disk", "smaller", breaks=False)
    table.add_column("", justify="left", no_wrap=True)
    chart = size_chart(report)
    for bar in chart.bars:
        if bar.size_bytes is None:
            continue
        factor = findings.times_smaller(report, bar.size_bytes) if bar.quantized else None
        cells = max(1, round(bar.width / 100 * _BAR_CELLS))
        table.add_row(
            bar.name,
            format_bytes(bar.size_bytes),
            f"{format_number(factor)}{TIMES}" if factor is not None else "",
            Text("█" * cells, style="green" if bar.quantized else "dim"),
        )
    limit = findings.times_smaller(report, report.sizes.limit_bytes)
    table.add_row(
        Text("order-0 limit", style="dim"),
        Text(format_bytes(report.sizes.limit_bytes), style="dim"),
        Text(f"{format_number(limit)}{TIMES}", style="dim"),
        Text("weights coded one by one", style="dim"),
    )
    return table


def _accuracy(report: Report) -> RenderableType:
    table = quiet_table("accuracy", "top-1", "95 % interval", "top-5", "change", breaks=False)
    before = report.accuracy.float
    for name, row in findings.accuracy_rows(report):
        digits = percent_digits(row.n)
        low, high = (format_percent(bound, digits) for bound in row.ci95)
        change = format_points(row.top1 - before.top1, digits) if before is not None and row is not before else ""
        table.add_row(
            name,
            Text(format_percent(row.top1, digits), style="bold"),
            f"{low.removesuffix(' %')} to {high}",
            format_percent(row.top5, digits),
            change,
        )
    remark = findings.accuracy_remark(report)
    return table if remark is None else Group(table, Text(), Text(printable(remark), no_wrap=False, overflow="fold"))


def _agreement(report: Report) -> Table:
    table = quiet_table("agreement", "beside", "same top-1", "differ", "max logit error", breaks=False)
    for name, beside, row in findings.agreement_rows(report):
        table.add_row(
            name,
            beside,
            Text(format_percent(row.top1, percent_digits(row.n)), style="bold"),
            f"{findings.num_disagreements(row):,} of {row.n:,}",
            f"{row.max_abs_error:.3g}",
        )
    return table


def _features(report: Report, section: FeaturesReport) -> Group:
    """What each file's features find, and how near they are to float's."""
    table = quiet_table(*features.titles(section), breaks=False)
    for row in features.rows(report, section):
        table.add_row(*row)
    said = (Text(printable(words), no_wrap=False, overflow="fold") for words in features.sentences(report, section))
    return Group(table, Text(), *said)


def _shrink(report: Report, shrink: ShrinkReport) -> Group:
    """What changed against the original, and the total of the coding; layer by layer it is in the other renderings."""
    table = quiet_table("pruned, shared, coded", "original", "now", breaks=False)
    table.add_column("", justify="left", overflow="fold")
    for row in shrinking.comparisons(report, shrink):
        table.add_row(row.what, row.before, Text(row.after, style="bold"), row.change)
    said = [Text(sentence, no_wrap=False, overflow="fold") for sentence in shrinking.sentences(report, shrink)]
    coded = quiet_table("coding", *shrinking.CODING_TITLES[1:-3], "P+Q+H", ".ekz", breaks=False)
    rows = list(shrinking.coded_rows(shrink))
    for row in rows if len(rows) <= _MOST_LISTED_LAYERS else rows[-1:]:
        cells = (row.weights, row.kept, row.levels, row.weight_bits, row.index_bits, row.classic, row.ekz)
        coded.add_row(printable(row.layer), *cells)
    return Group(table, Text(), *said, Text(), coded)


def _bits(report: Report, lowbit: BitsReport) -> Group:
    """Grid, storage and compute, and the sweep; layer by layer only where they are few."""
    first, *others = bits.sentences(report, lowbit)
    said = [Text(printable(first), style="bold", no_wrap=False, overflow="fold")]
    said += [Text(printable(sentence), no_wrap=False, overflow="fold") for sentence in others]
    parts: list[RenderableType] = [*said]
    if lowbit.pareto:
        table = quiet_table("size against accuracy", "grid", "size", "top-1", "change", "same top-1", breaks=False)
        for row in bits.point_rows(lowbit):
            label = Text(
                ("➤ " if row.is_chosen else "  ") + printable(row.label), style="bold" if row.is_chosen else ""
            )
            table.add_row(label, row.grid, row.size, row.top1, row.change, row.agreement)
        parts += [Text(), table]
    if 0 < len(lowbit.layers) <= _MOST_LISTED_LAYERS:
        table = quiet_table("grids", "weights", "bits", "rounding", "SQNR dB", "bits/weight", breaks=False)
        for row in bits.grid_rows(lowbit):
            table.add_row(printable(row.layer), row.weights, row.grid, printable(row.method), row.sqnr, row.storage)
        parts += [Text(), table]
    return Group(*parts)


def _latency(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="dim", border_style="dim")
    table.add_column("latency, ms", overflow="fold")
    table.add_column("runtime", overflow="fold")
    for name in ("thr.", "n", "p50", "p90", "p99", "CPU"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.latency:
        table.add_row(
            Text(printable(row.file)),
            Text(printable(row.runtime)),
            str(row.num_threads),
            f"{row.n:,}",
            Text(format_ms(row.p50_ms), style="bold"),
            format_ms(row.p90_ms),
            format_ms(row.p99_ms),
            format_ms(row.cpu_p50_ms),
        )
    boards = sorted({printable(row.board) for row in report.latency})
    withheld = any(row.p90_ms is None or row.p99_ms is None for row in report.latency)
    least = findings.MIN_QUERIES
    reason = f"; {DASH} needs n of {least['p90']} (p90) or {least['p99']} (p99)" if withheld else ""
    table.caption = Text(f"{', '.join(boards)}, batch 1; CPU: time of all threads, median{reason}", style="dim")
    table.caption_justify = "left"
    return table


def _verdict(report: Report) -> Group:
    state = findings.verdict(report)
    sentence = Text(_MARKS[state] + findings.verdict_sentence(report), style=_STYLES[state])
    missed: list[RenderableType] = []
    for check in findings.failed_checks(report):
        text = Text(f"{printable(check.name)}: ", style="red")
        text.append(f"{printable(check.measured)} (bar: {printable(check.bar)})", style="default")
        if check.layer is not None:
            text.append(f"\nlayer {printable(check.layer)}", style="default")
        missed.append(Padding(text, (0, 0, 0, 2)))
    return Group(sentence, *missed)
