from __future__ import annotations

import io
import re
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from edgekit.core.report import Report
from edgekit.report.markdown import escape_markdown
from edgekit.report.page import render_html
from edgekit.report.text import render_markdown, render_summary

Build = Callable[..., Report]


def printed(report: Report, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False, color_system=None).print(render_summary(report))
    return stream.getvalue()


def test_summary_says_what_compress_must_say(report: Report) -> None:
    text = printed(report)
    for words in (
        "mobilenet_v2_w0.5", "fashion_mnist test, 1,000 pictures", "2.81 MB", "732 kB", "3.84", "order-0 limit",
        "93.70 %", "92.02 to 95.05 %", "-0.10 points".replace("-", "\N{MINUS SIGN}"), "9 of 1,000", "0.412",
        "host_cpu", "Passed: all 6 checks met their bars",
    ):  # fmt: skip
        assert words in text


def test_summary_fits_80_columns(report: Report, failed: Report, unlabelled: Report, bare: Report) -> None:
    for each in (report, failed, unlabelled, bare):
        assert max(len(line) for line in printed(each).splitlines()) <= 80


def test_summary_ends_with_what_failed_and_where(failed: Report) -> None:
    *_, verdict, missed, layer = printed(failed).rstrip().splitlines()
    assert "Failed: 1 of 6 checks missed its bar" in verdict
    assert "-3.20 points (bar: at most 1.0 lost)" in missed
    assert "layer features.3.conv.1" in layer


def test_summary_leaves_out_accuracy_when_unlabelled(unlabelled: Report) -> None:
    text = printed(unlabelled)
    assert "accuracy " not in text.replace("accuracy kept", "")
    assert "unlabelled" in text
    assert "99.10 %" in text
    assert ".ekz" not in text


def test_unreadable_pictures_are_counted_wherever_the_number_of_pictures_stands(report: Report, change: Build) -> None:
    poor = change(dataset=msgspec.structs.replace(report.dataset, n=997, num_left_out=3))
    for text in (printed(poor), render_markdown(poor), render_html(poor)):
        assert "997 pictures, 3 unreadable ones left out" in text


def test_summary_says_that_weights_are_random(bare: Report) -> None:
    assert "--untrained" in printed(bare)


def test_summary_takes_names_as_text_not_as_markup_or_terminal_codes(change: Build) -> None:
    text = printed(change(model="[bold]x[/] \x1b[2J"))
    assert "[bold]x[/]" in text
    assert "\x1b" not in text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.text(st.characters()))
def test_summary_prints_any_name(report: Report, name: str) -> None:
    odd = msgspec.structs.replace(
        report, model=name, scheme=name, latency=(msgspec.structs.replace(report.latency[0], file=name, runtime=name),)
    )
    printed(odd).encode()


def test_markdown_has_every_table_in_order(failed: Report) -> None:
    text = render_markdown(failed)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    assert titles == [
        r"mobilenet\_v2\_w0.5", "Size: 732 kB as TFLite", "Accuracy", "Agreement", "Latency", "The run",
    ]  # fmt: skip
    assert "**Failed: 1 of 6 checks missed its bar**" in text
    assert (
        "| accuracy kept by the TFLite file | **missed** | -3.20 points | at most 1.0 lost | features.3.conv.1 |"
        in text
    )


def test_markdown_tables_have_equal_rows(report: Report, bare: Report, unlabelled: Report) -> None:
    for each in (report, bare, unlabelled):
        for table in re.findall(r"(?:^\|.*\n)+", render_markdown(each), flags=re.MULTILINE):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(widths) == 1


def test_markdown_says_that_accuracy_is_unknown_when_unlabelled(unlabelled: Report) -> None:
    assert "Unknown: the pictures have no labels." in render_markdown(unlabelled)


@given(st.text())
def test_escaped_name_renders_as_plain_text(name: str) -> None:
    html = MarkdownIt("commonmark").renderInline("x" + escape_markdown(name) + "x")
    assert not re.search(r"<[a-z/]", html)


@pytest.mark.parametrize("command", ["run `x`", "a ``` b", "````"])
def test_command_cannot_close_its_fence(change: Build, command: str) -> None:
    tokens = MarkdownIt("commonmark").parse(render_markdown(change(command=command)))
    fences = [token.content for token in tokens if token.type == "fence"]
    assert fences == [f"$ {command}\n"]
