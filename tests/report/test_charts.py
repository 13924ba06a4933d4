from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.report import Report, Sizes
from edgekit.report import charts

Build = Callable[..., Report]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 8))
def test_ticks_are_even_few_and_enclose_the_data(low: float, span: float, most: int) -> None:
    high = low + span
    ticks = charts.nice_ticks(low, high, most)
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    slack = max(abs(low), abs(high), 1) * 1e-8
    assert 2 <= len(ticks) <= most + 1
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert all(step == pytest.approx(steps[0], rel=1e-3, abs=slack) for step in steps)


def test_ticks_exist_when_there_is_no_span() -> None:
    assert len(charts.nice_ticks(0.5, 0.5)) >= 2


def test_size_bars_share_one_scale_with_the_limit(report: Report) -> None:
    chart = charts.size_chart(report)
    assert chart.bars[0].width == 100
    assert [bar.quantized for bar in chart.bars] == [False, True, True, True]
    for bar in chart.bars:
        assert bar.size_bytes is not None
        assert bar.width == pytest.approx(100 * bar.size_bytes / report.sizes.float_bytes, abs=0.01)
    assert chart.limit_at == pytest.approx(100 * report.sizes.limit_bytes / report.sizes.float_bytes, abs=0.01)


def test_size_bars_fit_when_the_limit_is_the_largest_or_all_is_zero(change: Build) -> None:
    odd = Sizes(float_bytes=100, onnx_bytes=300, tflite_bytes=200, ekz_bytes=None, limit_bytes=400)
    chart = charts.size_chart(change(sizes=odd))
    assert chart.limit_at == 100
    assert [bar.width for bar in chart.bars] == [25, 75, 50, 0]
    nothing = Sizes(float_bytes=0, onnx_bytes=0, tflite_bytes=0, ekz_bytes=0, limit_bytes=0)
    assert all(bar.width == 0 for bar in charts.size_chart(change(sizes=nothing)).bars)


def test_whiskers_lie_on_the_axis_in_order(report: Report, unlabelled: Report) -> None:
    chart = charts.accuracy_chart(report)
    assert chart is not None
    assert [row.name for row in chart.whiskers] == ["float", "int8 ONNX", "int8 TFLite"]
    for row in chart.whiskers:
        assert 0 <= row.low_at < row.value_at < row.high_at <= 100
    assert chart.ticks[0].at == 0
    assert chart.ticks[-1].at == 100
    assert charts.accuracy_chart(unlabelled) is None


def test_latency_bars_leave_out_withheld_percentiles(report: Report, bare: Report) -> None:
    bars = charts.latency_chart(report)
    assert [(bar.p90_at is None, bar.p99_at is None) for bar in bars] == [(False, False), (False, True), (True, True)]
    assert max(at for bar in bars for at in (bar.p50_at, bar.p99_at) if at is not None) == 100
    assert charts.latency_chart(bare) == ()


def test_sqnr_profile_marks_the_divergent_layer_and_stays_in_its_box(failed: Report) -> None:
    chart = charts.sqnr_chart(failed)
    assert chart is not None
    assert [dot.name for dot in chart.lollipops if dot.marked] == ["features.3.conv.1"]
    assert all(0 <= dot.top <= 100 and 0 < dot.at < 100 for dot in chart.lollipops)


def test_sqnr_profile_takes_negative_infinite_and_missing_values(report: Report, change: Build) -> None:
    values = (-3.0, None, math.inf, math.nan, 20.0)
    layers = tuple(
        msgspec.structs.replace(layer, sqnr_db=value) for layer, value in zip(report.layers, values, strict=False)
    )
    chart = charts.sqnr_chart(change(layers=layers))
    assert chart is not None
    assert len(chart.lollipops) == 4
    assert all(0 <= dot.top <= 100 for dot in chart.lollipops)
    assert charts.sqnr_widths(change(layers=layers))[:3] == (0, None, 100)
    assert charts.sqnr_chart(change(layers=layers[:1])) is None


def test_mac_shares_sum_to_everything(report: Report, bare: Report) -> None:
    assert sum(charts.mac_shares(report)) == pytest.approx(100, abs=0.1)
    assert charts.mac_shares(bare) == ()


def test_bits_per_weight_are_unknown_when_a_layer_has_no_weights(report: Report, change: Build) -> None:
    empty = msgspec.structs.replace(report.layers[0], shape=(0, 3, 1, 1), bytes=0, entropy_bytes=0)
    assert charts.bits_per_weight(change(layers=(empty,))) == (None,)
