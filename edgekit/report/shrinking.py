"""Pruning, sharing and coding in rows of text: the same for terminal, Markdown and HTML. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edgekit.core.layout import ORIGINAL_TFLITE
from edgekit.core.measurement import Latency
from edgekit.core.report import CodingRow, Report, ShrinkReport
from edgekit.report.findings import headline_latency
from edgekit.report.formatting import (
    DASH,
    TIMES,
    format_bytes,
    format_count,
    format_ms,
    format_number,
    format_percent,
    percent_digits,
    plural,
)


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table that compares with the original: what, before, after, and the change in words."""

    what: str
    before: str
    after: str
    change: str


class Coded(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table of Deep Compression, as words. P is pruning, Q is sharing, H is Huffman."""

    layer: str
    weights: str
    kept: str
    levels: str
    weight_bits: str
    index_bits: str
    shared: str
    classic: str
    ekz: str


CODING_TITLES = ("layer", "weights", "kept", "levels", "weight bits", "index bits", "P+Q", "P+Q+H", ".ekz")


def comparisons(report: Report, shrink: ShrinkReport) -> Iterator[Comparison]:
    """What pruning and sharing changed, each measured on both."""
    before = shrink.original
    counts = (("parameters", before.num_params, report.num_params), ("MACs", before.macs, report.macs))
    for what, old, new in counts:
        yield Comparison(what=what, before=format_count(old), after=format_count(new), change=smaller(old, new))
    sizes = report.sizes
    for what, old, new in (
        ("TFLite", before.tflite_bytes, sizes.tflite_bytes),
        ("packed .ekz", before.ekz_bytes, sizes.ekz_bytes),
    ):
        if new is not None:
            yield Comparison(what=what, before=format_bytes(old), after=format_bytes(new), change=smaller(old, new))
    old_latency, new_latency = original_latency(report), headline_latency(report)
    if old_latency is not None and new_latency is not None:
        yield Comparison(
            what="latency p50, TFLite",
            before=f"{format_ms(old_latency.p50_ms)} ms",
            after=f"{format_ms(new_latency.p50_ms)} ms",
            change=f"{format_number(old_latency.p50_ms / new_latency.p50_ms)}{TIMES} as fast",
        )
    old_accuracy, new_accuracy = before.accuracy, report.accuracy.tflite
    if old_accuracy is not None and new_accuracy is not None:
        digits = percent_digits(new_accuracy.n)
        yield Comparison(
            what="top-1, float before, TFLite after",
            before=format_percent(old_accuracy.top1, digits),
            after=format_percent(new_accuracy.top1, digits),
            change=f"{100 * (new_accuracy.top1 - old_accuracy.top1):+.{digits}f} points",
        )


def smaller(before: int, after: int) -> str:
    """A change of size in words.

    >>> smaller(100, 100)
    'the same'
    """
    if before == after:
        return "the same"
    return f"{format_number(before / after)}{TIMES} smaller" if after else DASH


def original_latency(report: Report) -> Latency | None:
    """The latency of the model before pruning, from the same run; None when it was not measured."""
    return next((row for row in report.latency if row.file == ORIGINAL_TFLITE), None)


def sentences(report: Report, shrink: ShrinkReport) -> Iterator[str]:
    """What was done, and plainly what it is good for."""
    if shrink.pruning_ratio:
        yield (
            f"{format_percent(shrink.pruning_ratio, 0)} of the channels were to go. Channels save time on any runtime: "
            f"{format_count(shrink.original.macs)} multiply-accumulates became {format_count(report.macs)}."
        )
    if shrink.method is not None:
        how = {"global": "by one magnitude threshold", "layer_wise": "layer by layer, at equal marginal loss"}.get(
            shrink.method, "two in every four"
        )
        yield (
            f"{format_percent(shrink.sparsity, 1)} of the weights are zero, {how}. Zeros save download size, not time: "
            "the kernels of a Pi or Jetson multiply them like any other weight."
        )
    if shrink.conv_bits or shrink.fc_bits:
        names = {"convolutions": shrink.conv_bits, "fully connected layers": shrink.fc_bits}
        said = ", ".join(f"at most {plural(2**bits, 'value')} in {name}" for name, bits in names.items() if bits)
        yield f"Weights are shared: {said}, per layer and group of channels. That saves download size, not time."
    yield (f"Fine-tuned for {plural(shrink.num_epochs, 'epoch')}." if shrink.num_epochs else "Nothing was fine-tuned.")
    yield from (f"{note[:1].upper()}{note[1:]}." for note in shrink.notes)
    packed = report.sizes.ekz_bytes
    total = next((row for row in shrink.coding if row.layer == "total"), None)
    if packed and total is not None:
        original = shrink.float_weight_bytes
        yield (
            f"From {format_bytes(original)} of 32-bit weights to {format_bytes(packed)} (.ekz, the whole file): "
            f"{format_number(original / packed, 1)}{TIMES} smaller; the classic coding of the layers alone takes "
            f"{format_bytes(total.classic_bytes)}, {format_number(original / total.classic_bytes, 1)}{TIMES}."
        )


def coded_rows(shrink: ShrinkReport) -> Iterator[Coded]:
    """The table of Deep Compression for this run."""
    for row in shrink.coding:
        yield Coded(
            layer=row.layer,
            weights=format_count(row.num_weights),
            kept=format_percent(row.kept, 1),
            levels=_levels(row),
            weight_bits=f"{format_number(row.weight_bits, 1)} → {format_number(row.coded_weight_bits, 1)}",
            index_bits=f"{format_number(row.index_bits, 1)} → {format_number(row.coded_index_bits, 1)}"
            if row.index_bits
            else DASH,
            shared=format_bytes(row.shared_bytes),
            classic=format_bytes(row.classic_bytes),
            ekz=DASH if row.ekz_bytes is None else format_bytes(row.ekz_bytes),
        )


def channel_rows(shrink: ShrinkReport) -> Iterator[tuple[str, str, str]]:
    """(layers, channels, why they stayed) of every group."""
    for group in shrink.channels:
        layers = group.layers[0] if len(group.layers) == 1 else f"{group.layers[0]} and {len(group.layers) - 1} more"
        change = f"{group.num_channels} → {group.num_kept}" if group.reason is None else str(group.num_channels)
        yield layers, change, group.reason or ""


def _levels(row: CodingRow) -> str:
    if row.num_levels is None:
        return ""
    return f"{row.num_levels}" if row.max_levels is None else f"{row.num_levels} of {row.max_levels}"
