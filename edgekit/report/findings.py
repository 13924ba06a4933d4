"""What follows from a report: the verdict in words, ratios, and which number stands on top. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import msgspec

from edgekit.core.layout import ORIGINAL_TFLITE
from edgekit.core.measurement import Accuracy, Agreement, Latency, wilson_interval
from edgekit.core.report import Check, LayerRow, Report, ReportDataset
from edgekit.report.formatting import format_number, plural, printable

MIN_QUERIES = {"p90": 64, "p99": 662}
"""Fewest queries for which a percentile is printed (`edgekit.core.measurement.percentile_bound`)."""

_MOST_NAMED = 5

_SCHEME = re.compile(
    r"(?P<mode>static|dynamic|weight_only)_w(?P<wkind>[if])p?(?P<wbits>\d+|mixed)_a(?P<akind>[if])p?(?P<abits>\d+)"
)


class BitWidths(msgspec.Struct, frozen=True, kw_only=True):
    """The three bit-widths that must not be mixed up.

    Args:
        grid: Grid bits used by the layers, ascending; empty without layers.
        stored: Bits per weight in the model files; None without layers.
        entropy: Bits per weight after ideal order-0 coding of the weights alone; None without layers.
        packed: Bits per parameter of the whole packed file; None until it is packed.
        compute: What the kernels multiply: "int8", "int16", "float32" ...; None for a scheme not understood.
    """

    grid: tuple[int, ...]
    stored: float | None
    entropy: float | None
    packed: float | None
    compute: str | None


def measured_pictures(dataset: ReportDataset) -> str:
    """How many pictures, and what is to be known about them.

    >>> dataset = ReportDataset(name="cats", split="test", n=997, labelled=False, class_names=(), num_left_out=3)
    >>> measured_pictures(dataset)
    '997 pictures, 3 unreadable ones left out, unlabelled'
    """
    left_out = plural(dataset.num_left_out, "unreadable one")
    parts = [
        plural(dataset.n, "picture"),
        f"{left_out} left out" if dataset.num_left_out else "",
        "" if dataset.labelled else "unlabelled",
    ]
    return ", ".join(part for part in parts if part)


def num_weights(layer: LayerRow) -> int:
    """Number of weights of a layer."""
    return math.prod(layer.shape)


def bit_widths(report: Report) -> BitWidths:
    """Work out grid, storage and compute bits of a report."""
    weights = sum(num_weights(layer) for layer in report.layers)
    packed_bytes = report.sizes.ekz_bytes
    return BitWidths(
        grid=tuple(sorted({layer.grid_bits for layer in report.layers})),
        stored=8 * sum(layer.bytes for layer in report.layers) / weights if weights else None,
        entropy=8 * sum(layer.entropy_bytes for layer in report.layers) / weights if weights else None,
        packed=8 * packed_bytes / report.num_params if packed_bytes is not None and report.num_params else None,
        compute=compute_kind(report.scheme) if report.bits is None else report.bits.compute,
    )


def compute_kind(scheme: str) -> str | None:
    """What the kernels multiply under a scheme; None for a scheme that is not understood.

    No CPU runtime multiplies integers narrower than 8 bits: smaller grids are stored in int8.

    >>> compute_kind("static_wimixed_ai8"), compute_kind("weight_only_wi4_afp32"), compute_kind("odd")
    ('int8', 'float32', None)
    """
    match = _SCHEME.fullmatch(scheme)
    if match is None:
        return None
    if match["mode"] == "weight_only" or match["akind"] == "f":
        return f"float{match['abits']}" if match["akind"] == "f" else "float32"
    return "int8" if int(match["abits"]) <= 8 else f"int{match['abits']}"


def quantized_word(report: Report) -> str:
    """What to call the quantized files: "int8" where that is what they compute with, otherwise "quantized"."""
    return "int8" if compute_kind(report.scheme) == "int8" else "quantized"


def failed_checks(report: Report) -> tuple[Check, ...]:
    """The bars that were missed."""
    return tuple(check for check in report.checks if not check.passed)


def verdict(report: Report) -> str:
    """One word: "passed", "failed", or "unverified" when nothing was checked."""
    if not report.checks:
        return "unverified"
    return "failed" if failed_checks(report) else "passed"


def verdict_sentence(report: Report) -> str:
    """The verdict as a reader wants to hear it."""
    failed = failed_checks(report)
    total = len(report.checks)
    if not report.checks:
        return "Not verified: no check was run on these files"
    if failed:
        return f"Failed: {len(failed)} of {plural(total, 'check')} missed {'its' if len(failed) == 1 else 'their'} bar"
    return "Passed: the one check met its bar" if total == 1 else f"Passed: all {total} checks met their bars"


def ratio(larger: float, smaller: float) -> float | None:
    """Quotient larger / smaller; None when there is nothing to divide by."""
    return larger / smaller if smaller else None


def times_smaller(report: Report, size_bytes: int | None) -> float | None:
    """How many times smaller than the float file; None without a size."""
    return ratio(report.sizes.float_bytes, size_bytes) if size_bytes else None


def above_limit(report: Report) -> float | None:
    """Share by which the packed file exceeds the order-0 limit (0.014: 1.4 % above); None until it is packed."""
    packed, limit = report.sizes.ekz_bytes, report.sizes.limit_bytes
    return packed / limit - 1 if packed is not None and limit else None


def accuracy_change(report: Report) -> float | None:
    """Top-1 of the TFLite file less that of the float model (shares); None when unlabelled."""
    before, after = report.accuracy.float, report.accuracy.tflite
    return after.top1 - before.top1 if before is not None and after is not None else None


def accuracy_rows(report: Report) -> tuple[tuple[str, Accuracy], ...]:
    """(what, accuracy) of the files whose accuracy is known."""
    word = quantized_word(report)
    table = report.accuracy
    rows = (("float", table.float), (f"{word} ONNX", table.onnx), (f"{word} TFLite", table.tflite))
    return tuple((name, accuracy) for name, accuracy in rows if accuracy is not None)


def absent_sentence(names: Sequence[str]) -> str:
    """Which classes have no pictures, the first of them by name.

    >>> absent_sentence(["cat"]), absent_sentence(list("abcdefg"))
    ('1 class has no pictures here: cat.', '7 classes have no pictures here: a, b, c, d, e and 2 more.')
    """
    named, more = ", ".join(printable(name) for name in names[:_MOST_NAMED]), len(names) - _MOST_NAMED
    have = plural(len(names), "class has", "classes have")
    return f"{have} no pictures here: {named}{f' and {more:,} more' if more > 0 else ''}."


def accuracy_remark(report: Report) -> str | None:
    """What to mind when reading the accuracy: classes that no picture was of; None when there is nothing."""
    known = report.dataset.class_names
    counts = [sum(row) for row in report.confusion or ()]
    absent = [known[index] if index < len(known) else f"class {index}" for index, n in enumerate(counts) if not n]
    return f"{absent_sentence(absent)} Accuracy is that of the others." if absent else None


def agreement_rows(report: Report) -> tuple[tuple[str, str, Agreement], ...]:
    """(file, compared with, agreement), the quantized files first."""
    word = quantized_word(report)
    table = report.agreement
    if table is None:
        return ()
    rows = [(f"{word} TFLite", "float", table.tflite), (f"{word} ONNX", "float", table.onnx)]
    if table.float_onnx is not None:
        rows.append(("float ONNX", "torch model", table.float_onnx))
    return tuple(rows)


def num_disagreements(agreement: Agreement) -> int:
    """Pictures answered differently."""
    return round((1.0 - agreement.top1) * agreement.n)


def agreement_interval(agreement: Agreement) -> tuple[float, float]:
    """95 % Wilson interval of the share of equal answers."""
    return wilson_interval(round(agreement.top1 * agreement.n), agreement.n)


def headline_latency(report: Report) -> Latency | None:
    """The row on top: the first of the quantized TFLite file, else the first; None when nothing was timed."""
    rows = [
        row
        for row in report.latency
        if row.file.endswith(".tflite") and "float" not in row.file and row.file != ORIGINAL_TFLITE
    ]
    return next(iter(rows or report.latency), None)


def withheld_reason(percentile: str, n: int) -> str:
    """Why a percentile is not printed."""
    return f"{percentile} needs at least {MIN_QUERIES[percentile]} queries to be proven; {n} were made"


def layer_sqnr_range(report: Report) -> tuple[float, float] | None:
    """(lowest, highest) finite SQNR of the layers in dB; None when none was measured."""
    values = [row.sqnr_db for row in report.layers if row.sqnr_db is not None and math.isfinite(row.sqnr_db)]
    return (min(values), max(values)) if values else None


def grid_words(widths: BitWidths) -> str:
    """Grid bits in words: "8 bits", "6 to 8 bits"."""
    if not widths.grid:
        return "unknown"
    if len(widths.grid) == 1:
        return plural(widths.grid[0], "bit")
    return f"{widths.grid[0]} to {widths.grid[-1]} bits"


def bits_per_weight_words(bits: float | None) -> str:
    """Bits per weight, two decimals."""
    return f"{format_number(bits)} bits per weight"
