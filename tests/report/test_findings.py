from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import pytest

from edgekit.core.measurement import Agreement, num_discardable
from edgekit.core.report import Report
from edgekit.report import findings

Build = Callable[..., Report]


def test_percentile_minima_are_those_of_the_early_stopping_rule() -> None:
    for name, share in (("p90", 0.90), ("p99", 0.99)):
        least = findings.MIN_QUERIES[name]
        assert num_discardable(least, share) == 1
        assert num_discardable(least - 1, share) == 0


def test_verdict_passes_only_when_every_check_does(report: Report, failed: Report, bare: Report) -> None:
    assert [findings.verdict(each) for each in (report, failed, bare)] == ["passed", "failed", "unverified"]
    assert findings.verdict_sentence(failed) == "Failed: 1 of 6 checks missed its bar"
    assert findings.verdict_sentence(bare).startswith("Not verified")


def test_verdict_speaks_grammar_when_there_is_one_check(report: Report, change: Build) -> None:
    assert findings.verdict_sentence(change(checks=report.checks[:1])) == "Passed: the one check met its bar"


@pytest.mark.parametrize(
    ("scheme", "compute"),
    [
        ("static_wi8_ai8", "int8"),
        ("static_wi6_ai8", "int8"),
        ("static_wi4_ai4", "int8"),
        ("static_wi8_ai16", "int16"),
        ("weight_only_wi4_afp32", "float32"),
        ("weight_only_wi4_ai8", "float32"),
        ("static_wfp16_afp16", "float16"),
        ("my own scheme", None),
    ],
)
def test_compute_is_what_kernels_multiply_not_the_grid(scheme: str, compute: str | None) -> None:
    assert findings.compute_kind(scheme) == compute


def test_bit_widths_are_kept_apart(report: Report, change: Build) -> None:
    layers = tuple(msgspec.structs.replace(layer, grid_bits=6) for layer in report.layers)
    widths = findings.bit_widths(change(layers=layers, scheme="static_wi6_ai8"))
    assert widths.grid == (6,)
    assert widths.stored == pytest.approx(8.0)
    assert widths.entropy is not None
    assert widths.entropy < 8
    assert widths.packed == pytest.approx(8 * 661_220 / 701_322)
    assert widths.compute == "int8"
    assert findings.grid_words(widths) == "6 bits"


def test_bit_widths_are_unknown_when_there_are_no_layers(bare: Report) -> None:
    widths = findings.bit_widths(bare)
    assert (widths.grid, widths.stored, widths.entropy, widths.packed) == ((), None, None, None)
    assert findings.grid_words(widths) == "unknown"


def test_headline_latency_is_of_the_quantized_tflite_file(report: Report, change: Build, bare: Report) -> None:
    tflite, float_onnx, onnx = report.latency
    float_tflite = msgspec.structs.replace(tflite, file="float.tflite")
    chosen = findings.headline_latency(change(latency=(float_onnx, float_tflite, onnx, tflite)))
    assert chosen == tflite
    assert findings.headline_latency(change(latency=(onnx,))) == onnx
    assert findings.headline_latency(bare) is None


def test_accuracy_change_is_unknown_when_unlabelled(report: Report, unlabelled: Report) -> None:
    assert findings.accuracy_change(report) == pytest.approx(-0.001)
    assert findings.accuracy_change(unlabelled) is None
    assert findings.accuracy_rows(unlabelled) == ()


def test_disagreements_are_counted_from_the_share() -> None:
    assert findings.num_disagreements(Agreement(top1=9991 / 10_000, max_abs_error=0.0, n=10_000)) == 9


def test_sizes_are_compared_with_float_and_with_the_limit(report: Report, unlabelled: Report) -> None:
    assert findings.times_smaller(report, report.sizes.tflite_bytes) == pytest.approx(2_812_345 / 731_904)
    assert findings.above_limit(report) == pytest.approx(661_220 / 652_118 - 1)
    assert findings.above_limit(unlabelled) is None
    assert findings.times_smaller(report, 0) is None


def test_sqnr_range_passes_over_what_was_not_measured(report: Report, change: Build) -> None:
    values = (30.0, None, math.inf, 12.5)
    layers = tuple(
        msgspec.structs.replace(layer, sqnr_db=value) for layer, value in zip(report.layers, values, strict=False)
    )
    assert findings.layer_sqnr_range(change(layers=layers)) == (12.5, 30.0)
    assert findings.layer_sqnr_range(change(layers=layers[1:3])) is None


def test_classes_without_pictures_are_named_beside_the_accuracy(report: Report, change: Build) -> None:
    assert report.confusion is not None
    rows = tuple((0,) * len(row) if index in {2, 7} else row for index, row in enumerate(report.confusion))

    assert findings.accuracy_remark(change(confusion=rows)) == (
        "2 classes have no pictures here: Pullover, Sneaker. Accuracy is that of the others."
    )
    assert findings.accuracy_remark(report) is None
    assert findings.accuracy_remark(change(confusion=None)) is None
