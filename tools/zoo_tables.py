"""Tables for docs/results.md from the rows of `zoo_runs.py`, and who is on the front."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from edgekit.core.measurement import Accuracy, Latency
from edgekit.models.listing import PackedSize, ZooEntry
from edgekit.report.formatting import format_bytes
from zoo_runs import ZooRow
from zoo_sizes import SizeRow, latency_ratio, packed_of

RowT = TypeVar("RowT")

_TITLES = (
    "network",
    "epochs",
    "parameters",
    "MACs",
    "top-1 float",
    "top-1 int8 TFLite",
    "int8 TFLite",
    ".ekz",
    "latency, VGG = 1",
)


def comparison_table(rows: Sequence[ZooRow]) -> list[str]:
    """One table per dataset, the smallest packed file first.

    Bold: of those that were trained as long as the others, nobody is smaller and better.
    """
    lines: list[str] = []
    for data in dict.fromkeys(row.training.data for row in rows):
        mine = sorted((row for row in rows if row.training.data == data), key=lambda row: row.ekz_bytes)
        fair = [row for row in mine if row.training.is_short]
        best = {row.training.stem for row in front(fair, lambda row: row.ekz_bytes, accuracy_of)}
        lines += ["", f"{data}, {mine[0].num_pictures} test pictures:", ""]
        lines += [_line(_TITLES), _line(["---"] * len(_TITLES))]
        lines += [_line(_cells(row, is_best=row.training.stem in best)) for row in mine]
    return lines


_SIZE_TITLES = (
    "system",
    "year",
    "parameters",
    "MACs",
    "float",
    "8-bit .ekz",
    "6-bit .ekz",
    "export, CPU",
    "latency, VGG-16 = 1",
    "top-1",
    "top-5",
)


def size_table(rows: Sequence[SizeRow], latencies: Mapping[str, Latency], entries: Sequence[ZooEntry]) -> list[str]:
    """Every system by year, as `edgekit zoo --table size` has them, with time.

    Args:
        rows: Measured.
        latencies: Of one run, by variant.
        entries: What the catalogue says; its packed sizes count, where it has them, before those of the rows.
    """
    measured = {row.variant: row for row in rows}
    lines = [_line(_SIZE_TITLES), _line(["---"] * len(_SIZE_TITLES))]
    for entry in entries:
        row = measured.get(entry.name)
        if row is None:
            continue
        ratio = latency_ratio(latencies, entry.name)
        published = entry.published
        cells = [
            entry.name,
            str(entry.year),
            f"{entry.num_params / 1e6:.2f} M",
            f"{entry.macs / 1e6:,.{0 if entry.macs >= 1e7 else 2}f} M",
            f"{entry.float_bytes / 1e6:.1f} MB",
            *_packed(entry.packed or packed_of(row)),
            f"{row.export_cpu_s:.2f} s",
            "" if ratio is None else f"{ratio:.3f}",
            *(
                "" if value is None else f"{value:.1f} %"
                for value in (published and published.top1, published and published.top5)
            ),
        ]
        lines.append(_line(cells))
    return lines


def _packed(size: PackedSize) -> tuple[str, str]:
    mark = "" if size.trained else "~"
    return f"{mark}{format_bytes(size.bits8_bytes)}", f"{mark}{format_bytes(size.bits6_bytes)}"


def front(rows: Iterable[RowT], cost: Callable[[RowT], float], gain: Callable[[RowT], float]) -> list[RowT]:
    """Rows that no other beats in gain at no more cost, the cheapest first."""
    kept: list[RowT] = []
    for row in sorted(rows, key=lambda row: (cost(row), -gain(row))):
        if not kept or gain(row) > gain(kept[-1]):
            kept.append(row)
    return kept


def accuracy_of(row: ZooRow) -> float:
    """Of the int8 file."""
    return row.top1_int8.top1


def _cells(row: ZooRow, *, is_best: bool) -> list[str]:
    name = row.training.network + (" (compact)" if row.training.kind == "compact" else "")
    return [
        f"**{name}**" if is_best else name,
        "embedded" if row.training.epochs is None else str(row.training.epochs),
        f"{row.num_params / 1e6:.2f} M",
        f"{row.macs / 1e6:.1f} M",
        _with_interval(row.top1_float),
        _with_interval(row.top1_int8),
        format_bytes(row.tflite_bytes),
        format_bytes(row.ekz_bytes),
        "" if row.latency_ratio is None else f"{row.latency_ratio:.2f}",
    ]


def _with_interval(accuracy: Accuracy) -> str:
    low, high = accuracy.ci95
    return f"{100 * accuracy.top1:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
