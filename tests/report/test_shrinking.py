"""The section on pruning, sharing and coding, in all three renderings."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
from rich.console import Console

from edgekit.core.report import Report
from edgekit.report.files import read_report, write_report
from edgekit.report.findings import headline_latency
from edgekit.report.formatting import TIMES
from edgekit.report.page import render_html
from edgekit.report.shrinking import comparisons, sentences
from edgekit.report.text import render_markdown, render_summary


def printed(report: Report) -> str:
    stream = io.StringIO()
    Console(file=stream, width=80, force_terminal=False, color_system=None).print(render_summary(report))
    return stream.getvalue()


def test_comparison_sets_before_beside_after(shrunk: Report) -> None:
    assert shrunk.shrink is not None
    rows = {row.what: row for row in comparisons(shrunk, shrunk.shrink)}

    assert (rows["MACs"].before, rows["MACs"].after) == ("24.0 M", "12.3 M")
    assert rows["latency p50, TFLite"].change == f"2.00{TIMES} as fast"
    assert rows["packed .ekz"].change == f"1.37{TIMES} smaller"
    assert rows["top-1, float before, TFLite after"].change.startswith("-0.2")


def test_comparison_leaves_out_what_was_not_measured(shrunk: Report) -> None:
    assert shrunk.shrink is not None
    original = msgspec.structs.replace(shrunk.shrink.original, accuracy=None)
    whats = {
        row.what
        for row in comparisons(
            msgspec.structs.replace(shrunk, latency=()), msgspec.structs.replace(shrunk.shrink, original=original)
        )
    }

    assert whats == {"parameters", "MACs", "TFLite", "packed .ekz"}


def test_sentences_say_plainly_what_saves_what(shrunk: Report) -> None:
    assert shrunk.shrink is not None
    text = " ".join(sentences(shrunk, shrunk.shrink))

    assert "Channels save time on any runtime" in text
    assert "Zeros save download size, not time" in text
    assert "256 values" in text
    assert "32 values" in text
    assert "Fine-tuned for 9 epochs" in text


def test_every_rendering_has_the_table(shrunk: Report) -> None:
    for text in (printed(shrunk), render_markdown(shrunk), render_html(shrunk)):
        assert "P+Q+H" in text
        assert "5.0 → 4.2" in text


def test_summary_fits_80_columns(shrunk: Report) -> None:
    assert max(len(line) for line in printed(shrunk).splitlines()) <= 80


def test_the_original_is_no_headline(shrunk: Report) -> None:
    only_original = msgspec.structs.replace(shrunk, latency=shrunk.latency[::-1])
    top = headline_latency(only_original)
    assert top is not None
    assert top.file == "model.tflite"


def test_section_survives_the_file(shrunk: Report, tmp_path: Path) -> None:
    write_report(shrunk, tmp_path)

    assert read_report(tmp_path) == shrunk
