from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.report import BitsReport, ParetoPoint, Report
from edgekit.report.page import render_html
from edgekit.report.pareto import pareto_chart, size_ticks

points = st.builds(
    ParetoPoint,
    label=st.just("model"),
    kind=st.sampled_from(["float", "int8", "lowbit", "other"]),
    size_bytes=st.integers(0, 10**9),
    grid_bits=st.none() | st.floats(2, 8),
    top1=st.none() | st.floats(0, 1),
    agreement=st.floats(0, 1),
    n=st.integers(0, 50_000),
    is_chosen=st.booleans(),
)


def sweep_of(swept: list[ParetoPoint]) -> BitsReport:
    return BitsReport(
        asked="mixed",
        budget_bytes=None,
        max_drop=None,
        drop=None,
        num_held_out=0,
        equalized=False,
        num_calibration=1,
        engine="edgekit",
        compute="int8",
        num_epochs=0,
        layers=(),
        pareto=tuple(swept),
    )


@given(st.lists(points, max_size=8))
def test_plot_stays_in_its_box_whatever_the_points(swept: list[ParetoPoint]) -> None:
    chart = pareto_chart(sweep_of(swept))
    if chart is None:
        assert sum(point.size_bytes > 0 for point in swept) < 2
        return
    assert len(chart.dots) == sum(point.size_bytes > 0 for point in swept)
    for dot in chart.dots:
        positions = [dot.at, dot.top, *(bound for bound in (dot.low, dot.high) if bound is not None)]
        assert all(0 <= position <= 100 for position in positions)
        assert dot.low is None or dot.high is None or dot.high <= dot.top + 1e-3
    for before, after in itertools.pairwise(chart.dots):
        assert before.at <= after.at
    assert 1 <= len(chart.sizes) <= 5
    assert all(0 <= tick.at <= 100 for tick in (*chart.sizes, *chart.shares))


@given(st.integers(1, 10**12), st.floats(1, 1e6))
def test_sizes_on_the_axis_rise_and_are_few(low: int, factor: float) -> None:
    ticks = size_ticks(low, low * factor)
    assert 1 <= len(ticks) <= 5
    assert list(ticks) == sorted(set(ticks))
    assert all(low * 0.999 <= tick <= low * factor * 1.001 for tick in ticks)


def test_float_int8_and_chosen_are_marked(mixed: Report) -> None:
    assert mixed.bits is not None
    chart = pareto_chart(mixed.bits)
    assert chart is not None
    marks = [dot.mark for dot in chart.dots]
    assert marks == ["plain", "plain", "chosen", "plain", "plain", "int8", "float"]
    assert [dot.word for dot in chart.dots if dot.word] == ["chosen", "int8", "float"]
    assert chart.has_intervals
    page = render_html(mixed)
    assert all(page.count(f'class="mark-{mark}"') == marks.count(mark) for mark in set(marks))


def test_agreement_is_drawn_when_pictures_are_unlabelled(mixed: Report) -> None:
    assert mixed.bits is not None
    unlabelled = tuple(msgspec.structs.replace(point, top1=None) for point in mixed.bits.pareto)
    chart = pareto_chart(msgspec.structs.replace(mixed.bits, pareto=unlabelled))
    assert chart is not None
    assert chart.title == "same top-1 as the float model"
    assert [dot.value for dot in chart.dots][-2:] == [0.991, 1.0]
    assert chart.dots[-1].low is None, "float agrees with itself: that is no measurement"


def test_no_intervals_are_drawn_when_no_pictures_are_known(mixed: Report) -> None:
    assert mixed.bits is not None
    uncounted = tuple(msgspec.structs.replace(point, n=0) for point in mixed.bits.pareto)
    bits = msgspec.structs.replace(mixed.bits, pareto=uncounted)
    chart = pareto_chart(bits)
    assert chart is not None
    assert not chart.has_intervals
    assert 'class="spread"' not in render_html(msgspec.structs.replace(mixed, bits=bits))


@pytest.mark.parametrize("num_points", [0, 1])
def test_nothing_is_drawn_of_fewer_than_two_models(mixed: Report, num_points: int) -> None:
    assert mixed.bits is not None
    few = msgspec.structs.replace(mixed.bits, pareto=mixed.bits.pareto[:num_points])
    assert pareto_chart(few) is None
    assert "<figcaption>Top-1" not in render_html(msgspec.structs.replace(mixed, bits=few))
