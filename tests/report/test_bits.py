"""The section on grids below eight bits, in all three renderings."""

from __future__ import annotations

import io
import re
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from edgekit.core.report import BitsReport, Report
from edgekit.report.bits import grid_rows, mean_grid_bits, point_rows, sentences, width_words
from edgekit.report.files import read_report, write_report
from edgekit.report.findings import bit_widths
from edgekit.report.formatting import DASH, MINUS, TIMES
from edgekit.report.page import render_html
from edgekit.report.text import render_markdown, render_summary


def printed(report: Report) -> str:
    stream = io.StringIO()
    Console(file=stream, width=80, force_terminal=False, color_system=None).print(render_summary(report))
    return stream.getvalue()


def section(report: Report) -> BitsReport:
    assert report.bits is not None
    return report.bits


def bend(report: Report, **fields: object) -> Report:
    """The report with some fields of its section replaced."""
    return msgspec.structs.replace(report, bits=msgspec.structs.replace(section(report), **fields))


def said(report: Report) -> str:
    return " ".join(sentences(report, section(report)))


def test_three_bit_widths_stand_apart_in_one_line(mixed: Report) -> None:
    bits = section(mixed)
    rows = bits.layers
    mean = sum(row.grid_bits * row.num_weights for row in rows) / sum(row.num_weights for row in rows)
    assert mean_grid_bits(bits) == mean
    assert width_words(mixed, bits) == (
        f"grid {mean:.1f} bits on average (4 to 8), storage {8 * 328_412 / 701_322:.1f} bits per weight, compute int8"
    )


def test_three_bit_widths_have_words_when_one_grid_fits_all_and_nothing_is_packed(mixed: Report) -> None:
    six = bend(mixed, layers=tuple(msgspec.structs.replace(row, grid_bits=6) for row in section(mixed).layers))
    six = msgspec.structs.replace(six, sizes=msgspec.structs.replace(six.sizes, ekz_bytes=None))
    assert width_words(six, section(six)) == "grid 6 bits, storage not packed yet, compute int8"
    assert width_words(mixed, section(bend(mixed, layers=()))).startswith("grid unknown, storage")


def test_compute_is_int4_where_kernels_are_given_int4(mixed: Report) -> None:
    assert bit_widths(mixed).compute == "int8"
    narrow = bend(mixed, compute="int4")
    assert bit_widths(narrow).compute == "int4"
    assert width_words(narrow, section(narrow)).endswith("compute int4")


def test_sentences_set_what_was_reached_beside_what_was_asked(mixed: Report) -> None:
    text = said(mixed)
    assert "At most 330,000 bytes were asked for: the .ekz has 328,412, 99.5 % of that." in text
    assert f"were to be lost: {MINUS}0.40 points on the 1,000 held-out pictures" in text
    assert "8 layers stayed at 8 bits (7 depthwise, 1 first layer)" in text
    assert "Rounding: 8 nearest, 6 gptq, 6 adaround." in text
    assert "by edgekit with 256 calibration pictures, after balancing channels across layers" in text
    assert "One dead channel" in text
    assert "QAT" not in text


def test_sentences_leave_out_what_was_not_asked(mixed: Report) -> None:
    text = said(bend(mixed, budget_bytes=None, max_drop=None, equalized=False, num_epochs=2, notes=()))
    assert "asked for" not in text
    assert "to be lost" not in text
    assert "balancing" not in text
    assert "for 2 epochs (QAT)" in text


def test_sentences_say_that_a_drop_was_not_measured(mixed: Report) -> None:
    assert "what is lost was not measured" in said(bend(mixed, drop=None, num_held_out=0))


def test_points_go_from_small_to_large_beside_the_float_model(mixed: Report) -> None:
    rows = list(point_rows(section(mixed)))
    assert [row.label for row in rows][-2:] == ["int8", "float"]
    assert [row.label for row in rows if row.is_chosen] == ["mixed, 4.6 bits"]
    chosen = next(row for row in rows if row.is_chosen)
    assert (chosen.size, chosen.smaller, chosen.top1) == ("328 kB", f"{2_812_345 / 328_412:.2f}{TIMES}", "93.40 %")
    assert chosen.change == f"{MINUS}0.40 points"
    assert (rows[-1].smaller, rows[-1].change) == ("", "")


def test_layers_without_a_measured_error_have_a_dash(mixed: Report) -> None:
    rows = list(grid_rows(section(mixed)))
    assert [row.layer for row in rows] == [row.name for row in mixed.layers]
    assert (rows[2].sqnr, rows[2].grid, rows[2].because) == (DASH, "4", "")
    assert (rows[1].because, rows[1].method) == ("depthwise", "nearest")


def test_every_rendering_shows_widths_budget_and_sweep(mixed: Report) -> None:
    words = width_words(mixed, section(mixed))[1:]
    for text in (printed(mixed), render_markdown(mixed), render_html(mixed)):
        assert words in text
        assert "330,000 bytes" in text
        assert "mixed, 4.6 bits" in text


def test_summary_lists_layers_only_where_they_are_few(mixed: Report) -> None:
    assert "bits/weight" not in printed(mixed)
    assert "bits/weight" in printed(bend(mixed, layers=section(mixed).layers[:8]))


def test_summary_fits_80_columns(mixed: Report) -> None:
    few = bend(mixed, layers=section(mixed).layers[:8])
    assert max(len(line) for text in (printed(mixed), printed(few)) for line in text.splitlines()) <= 80


def test_reports_without_the_section_show_none_of_it(report: Report) -> None:
    for text in (printed(report), render_markdown(report), render_html(report)):
        assert "Grids, layer by layer" not in text
        assert "same top-1 as" not in text
        assert "held-out" not in text


def test_section_is_drawn_without_sweep_and_layers(mixed: Report) -> None:
    plain = bend(mixed, pareto=(), layers=())
    for text in (printed(plain), render_markdown(plain), render_html(plain)):
        assert "grid unknown" in text.lower()
    assert 'id="pareto"' not in render_html(plain)


@pytest.mark.parametrize("payload", ["<script>x()</script>", "a|b*c*"])
def test_names_of_layers_and_models_are_escaped(mixed: Report, payload: str) -> None:
    bits = section(mixed)
    odd = bend(
        mixed,
        layers=tuple(
            msgspec.structs.replace(row, layer=payload, op=payload, method=payload, wide_because=payload)
            for row in bits.layers
        ),
        pareto=tuple(msgspec.structs.replace(point, label=payload) for point in bits.pareto),
        notes=(payload,),
    )
    assert "<script>x()" not in render_html(odd)
    # Every bar that is no border of a cell is escaped, so all rows of a table have the same number of cells.
    table = [line for line in render_markdown(odd).splitlines() if line.startswith("|") and "gptq" not in line]
    assert all(len(re.findall(r"(?<!\\)\|", line)) in {4, 6, 7, 9, 10} for line in table)
    assert "<script>" not in render_markdown(odd)


def test_section_survives_the_file(mixed: Report, tmp_path: Path) -> None:
    write_report(mixed, tmp_path)
    assert read_report(tmp_path) == mixed
