"""The report of a feature extractor, in all its forms."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from edgekit.core.features import Closeness, FeaturesReport, PrecisionAtK
from edgekit.core.measurement import wilson_interval
from edgekit.core.report import AccuracyTable, Report
from edgekit.report.files import read_report, write_report
from edgekit.report.page import render_html
from edgekit.report.text import render_markdown, render_summary


def precision(*shares: float, n: int = 1000) -> tuple[PrecisionAtK, ...]:
    return tuple(
        PrecisionAtK(k=k, share=share, ci95=wilson_interval(share * n, n), n=n)
        for k, share in zip((1, 5, 10), shares, strict=True)
    )


@pytest.fixture
def extractor(report: Report) -> Report:
    """A labelled run of `edgekit embed`."""
    features = FeaturesReport(
        layer="classifier",
        num_features=320,
        float_tflite_bytes=2_113_665,
        float_onnx_error=2.1e-6,
        float_tflite_error=1.9e-6,
        largest_feature=4.1,
        onnx=Closeness(mean=0.99871, least=0.96402, n=1000),
        tflite=Closeness(mean=0.99872, least=0.96413, n=1000),
        tflite_onnx_max_steps=1,
        tflite_onnx_mean_steps=0.01,
        precision={
            "float": precision(0.92, 0.9147, 0.9142),
            "onnx": precision(0.919, 0.9155, 0.9144),
            "tflite": precision(0.918, 0.9156, 0.9145),
        },
    )
    return msgspec.structs.replace(
        report,
        accuracy=AccuracyTable(float=None, onnx=None, tflite=None),
        agreement=None,
        confusion=None,
        disagreements=(),
        features=features,
    )


@pytest.fixture
def unlabelled_extractor(extractor: Report) -> Report:
    assert extractor.features is not None
    return msgspec.structs.replace(
        extractor,
        dataset=msgspec.structs.replace(extractor.dataset, labelled=False),
        features=msgspec.structs.replace(extractor.features, precision={}),
    )


def printed(report: Report) -> str:
    stream = io.StringIO()
    Console(file=stream, width=80, force_terminal=False, color_system=None).print(render_summary(report))
    return stream.getvalue()


def test_every_form_has_precision_and_cosine_of_every_file(extractor: Report) -> None:
    for text in (printed(extractor), render_markdown(extractor), render_html(extractor)):
        for words in ("92.00 %", "91.90 %", "91.56 %", "at 10", "0.9987", "0.9641", "320 numbers describe a picture"):
            assert words in text.replace("\N{NO-BREAK SPACE}", " ")


def test_no_form_speaks_of_answers(extractor: Report, unlabelled_extractor: Report) -> None:
    for each in (extractor, unlabelled_extractor):
        for text in (printed(each), render_markdown(each), render_html(each).partition("<main>")[2]):
            for words in ("top-1", "logit", "disagree", "Agreement", "same answer"):
                assert words not in text


def test_summary_fits_80_columns(extractor: Report, unlabelled_extractor: Report) -> None:
    for each in (extractor, unlabelled_extractor):
        assert max(len(line) for line in printed(each).splitlines()) <= 80


def test_every_form_says_that_nobody_knows_when_unlabelled(unlabelled_extractor: Report) -> None:
    for render in (printed, render_markdown, render_html):
        text = " ".join(render(unlabelled_extractor).split())
        assert "nobody knows which of them are alike" in text
        assert "0.9987" in text


def test_page_has_no_place_that_its_contents_point_to_in_vain(extractor: Report) -> None:
    page = render_html(extractor)
    targets = {part.partition('"')[0] for part in page.split('href="#')[1:]}
    assert targets <= {part.partition('"')[0] for part in page.split('id="')[1:]}
    assert "features" in targets


def test_report_is_read_back_as_it_was_written(extractor: Report, tmp_path: Path) -> None:
    write_report(extractor, tmp_path)
    assert read_report(tmp_path) == extractor
