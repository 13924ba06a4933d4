"""Grids below eight bits in rows of text: the same for terminal, Markdown and HTML. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from edgekit.core.measurement import wilson_interval
from edgekit.core.report import BitsReport, ParetoPoint, Report
from edgekit.report import findings
from edgekit.report.formatting import (
    DASH,
    TIMES,
    format_bytes,
    format_count,
    format_number,
    format_percent,
    format_points,
    percent_digits,
    plural,
)


class GridRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table of layers, as words."""

    layer: str
    op: str
    weights: str
    grid: str
    because: str
    method: str
    sqnr: str
    storage: str
    entropy: str


class PointRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table of sizes and accuracies, as words."""

    label: str
    grid: str
    size: str
    smaller: str
    top1: str
    interval: str
    change: str
    agreement: str
    is_chosen: bool


GRID_TITLES = (
    "layer", "op", "weights", "grid bits", "at 8 bits because", "rounding", "SQNR dB", "bits per weight", "entropy",
)  # fmt: skip
POINT_TITLES = ("model", "grid bits", "size", "smaller", "top-1", "95 % interval", "change", "same top-1")


def mean_grid_bits(bits: BitsReport) -> float | None:
    """Grid bits averaged over weights; None without any."""
    total = sum(row.num_weights for row in bits.layers)
    return sum(row.grid_bits * row.num_weights for row in bits.layers) / total if total else None


def width_words(report: Report, bits: BitsReport) -> str:
    """Grid, storage and compute bits, which must not be mixed up, in one line."""
    used = sorted({row.grid_bits for row in bits.layers})
    mean = mean_grid_bits(bits)
    if mean is None:
        grid = "grid unknown"
    elif len(used) == 1:
        grid = f"grid {plural(used[0], 'bit')}"
    else:
        grid = f"grid {format_number(mean, 1)} bits on average ({used[0]} to {used[-1]})"
    widths = findings.bit_widths(report)
    if widths.packed is not None:
        storage = f"storage {format_number(widths.packed, 1)} bits per weight"
    else:
        storage = "storage not packed yet"
    return f"{grid}, {storage}, compute {bits.compute}"


def sentences(report: Report, bits: BitsReport) -> Iterator[str]:
    """What was asked for, what came of it, and how."""
    words = width_words(report, bits)
    yield f"{words[:1].upper()}{words[1:]}."
    if bits.budget_bytes is not None:
        yield _budget_words(bits.budget_bytes, report.sizes.ekz_bytes)
    if bits.max_drop is not None:
        yield _drop_words(bits)
    wide = [row for row in bits.layers if row.wide_because is not None]
    if wide:
        total = sum(row.num_weights for row in bits.layers)
        share = sum(row.num_weights for row in wide) / total if total else None
        counted = _counted(row.wide_because or "" for row in wide)
        yield f"{plural(len(wide), 'layer')} stayed at 8 bits ({counted}): {format_percent(share)} of the weights."
    if bits.layers:
        yield f"Rounding: {_counted(row.method for row in bits.layers)}."
    first = ", after balancing channels across layers" if bits.equalized else ""
    yield f"Quantized by {bits.engine} with {plural(bits.num_calibration, 'calibration picture')}{first}."
    if bits.num_epochs:
        yield f"Trained on its grids for {plural(bits.num_epochs, 'epoch')} (QAT)."
    yield from (f"{note[:1].upper()}{note[1:]}." for note in bits.notes)


def _budget_words(budget_bytes: int, packed_bytes: int | None) -> str:
    asked = f"At most {budget_bytes:,} bytes were asked for"
    if packed_bytes is None:
        return f"{asked}; nothing is packed yet."
    share = format_percent(packed_bytes / budget_bytes, 1) if budget_bytes else DASH
    return f"{asked}: the .ekz has {packed_bytes:,}, {share} of that."


def _drop_words(bits: BitsReport) -> str:
    asked = f"At most {format_number(bits.max_drop, 1)} points of top-1 were to be lost"
    if bits.drop is None:
        return f"{asked}; what is lost was not measured."
    change = format_points(-bits.drop / 100, percent_digits(bits.num_held_out))
    return f"{asked}: {change} on the {plural(bits.num_held_out, 'held-out picture')} that decided."


def _counted(words: Iterable[str]) -> str:
    """The words after their counts, the most frequent first."""
    return ", ".join(f"{count:,} {word}" for word, count in Counter(words).most_common())


def grid_rows(bits: BitsReport) -> Iterator[GridRow]:
    """Every layer's grid, in the order they run."""
    for row in bits.layers:
        yield GridRow(
            layer=row.layer,
            op=row.op,
            weights=format_count(row.num_weights),
            grid=str(row.grid_bits),
            because=row.wide_because or "",
            method=row.method,
            sqnr=format_number(row.output_sqnr_db, 1),
            storage=format_number(row.bits_per_weight),
            entropy=format_bytes(row.entropy_bytes),
        )


def by_size(bits: BitsReport) -> tuple[ParetoPoint, ...]:
    """The points of the sweep from the smallest to the largest."""
    return tuple(sorted(bits.pareto, key=lambda point: point.size_bytes))


def point_rows(bits: BitsReport) -> Iterator[PointRow]:
    """The table of sizes and accuracies, from the smallest to the largest."""
    before = next((point for point in bits.pareto if point.kind == "float"), None)
    for point in by_size(bits):
        digits = percent_digits(point.n)
        factor = findings.ratio(before.size_bytes, point.size_bytes) if before is not None else None
        change = ""
        if before is not None and before.top1 is not None and point.top1 is not None and point is not before:
            change = format_points(point.top1 - before.top1, digits)
        yield PointRow(
            label=point.label,
            grid=format_number(point.grid_bits, 1) if point.grid_bits is not None else "",
            size=format_bytes(point.size_bytes),
            smaller="" if factor is None or point is before else f"{format_number(factor)}{TIMES}",
            top1=format_percent(point.top1, digits),
            interval=_interval_words(point.top1, point.n),
            change=change,
            agreement=format_percent(point.agreement, digits),
            is_chosen=point.is_chosen,
        )


def _interval_words(share: float | None, n: int) -> str:
    if share is None or n < 1:
        return DASH
    low, high = wilson_interval(round(share * n), n)
    digits = percent_digits(n)
    return f"{format_percent(low, digits).removesuffix(' %')} to {format_percent(high, digits)}"
