"""A feature extractor in rows of text: the same for terminal, Markdown and HTML. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.core.features import FeaturesReport
from edgekit.core.report import Report
from edgekit.report.findings import quantized_word
from edgekit.report.formatting import DASH, format_bytes, format_percent, percent_digits, plural


def titles(section: FeaturesReport) -> tuple[str, ...]:
    """Columns of `rows`."""
    ks = [f"at {row.k}" for row in section.precision.get("float", ())]
    return ("precision" if ks else "features", *ks, "mean cosine", "least")


def rows(report: Report, section: FeaturesReport) -> Iterator[tuple[str, ...]]:
    """One row per file: precision at each k, and the cosine with the float model's features."""
    word = quantized_word(report)
    files = (
        ("float", "float", None),
        ("onnx", f"{word} ONNX", section.onnx),
        ("tflite", f"{word} TFLite", section.tflite),
    )
    for key, name, near in files:
        shares = [format_percent(row.share, percent_digits(row.n)) for row in section.precision.get(key, ())]
        cosines = (DASH, DASH) if near is None else (f"{near.mean:.4f}", f"{near.least:.4f}")
        yield (name, *shares, *cosines)


def headline(section: FeaturesReport) -> tuple[str, str, str] | None:
    """Precision at 1 of float and of the TFLite file, and the interval of the latter; None when unlabelled."""
    before, after = section.precision.get("float"), section.precision.get("tflite")
    if not before or not after:
        return None
    digits = percent_digits(after[0].n)
    low, high = (format_percent(bound, digits) for bound in after[0].ci95)
    first, second = (format_percent(row[0].share, digits).removesuffix(" %") for row in (before, after))
    return first, second, f"{low.removesuffix(' %')} to {high}"


def sentences(report: Report, section: FeaturesReport) -> tuple[str, ...]:
    """What the numbers are, and under which condition."""
    what = f"what layer {section.layer} of {report.model} is given"
    said = [f"{plural(section.num_features, 'number')} describe a picture: {what}. Pictures are compared by cosine."]
    if section.precision.get("float"):
        said.append(
            f"Precision at k is the share of pictures of the same class among the k nearest, each of the "
            f"{plural(section.precision['float'][0].n, 'test picture')} asking among all others."
        )
    else:
        said.append("The pictures have no labels, so nobody knows which of them are alike.")
    said.append(
        f"The {quantized_word(report)} TFLite and ONNX files differ by at most "
        f"{plural(section.tflite_onnx_max_steps, 'step')} of their grid in any feature. "
        f"The float TFLite file takes {format_bytes(section.float_tflite_bytes)}."
    )
    return tuple(said)
