"""A board's record put together: sessions, joined windows, what happened, and the host beside it."""

from __future__ import annotations

import msgspec
import pytest

from device_records import START_UNIX_S, bare, day, model, stages, status
from edgekit.core.device_record import DeviceRecord
from edgekit.core.device_status import DeviceStatus
from edgekit.core.report import Report
from edgekit.report import device_charts
from edgekit.report.device import MAX_POINTS, build_device_report, join_points
from edgekit.report.device_events import describe_jump
from edgekit.report.device_findings import format_time, headline, mood, remarks
from edgekit.report.device_host import compare_host, size_rows


def record(*statuses: DeviceStatus) -> DeviceRecord:
    return DeviceRecord(statuses=statuses, num_damaged=0, num_newer=0)


def texts(of: DeviceRecord) -> list[str]:
    return [event.text for event in build_device_report(of).events]


def test_sessions_are_cut_where_the_uptime_begins_again() -> None:
    report = build_device_report(day(420, restart_at=240))

    first, second = report.sessions
    assert (first.num_windows, second.num_windows) == (240, 180)
    assert (first.begins_s, second.begins_s) == (0.0, 2400.0)
    assert report.seconds == 4200.0
    assert first.num_answers == 280 * 240
    assert first.started_unix_s == START_UNIX_S
    assert [session.num_lost for session in report.sessions] == [1, 1]


def test_rotated_record_counts_from_where_it_begins() -> None:
    whole = day(200, restart_at=1000)
    report = build_device_report(record(*whole.statuses[150:]))

    (session,) = report.sessions
    assert session.seconds == 500.0
    assert session.num_answers == 280 * 49
    assert session.num_lost == 0
    assert report.points[0].begins_s == 0.0


def test_total_is_of_the_last_session_and_share_slowed_of_the_whole_record() -> None:
    report = build_device_report(day())

    assert report.stages[0].n == 280 * 180
    slowed = [number for number in range(420) if bool(getattr(status(number).recent, "was_slowed", False))]
    assert report.share_slowed == pytest.approx(len(slowed) / 420)
    assert report.max_temperature_c == max(
        getattr(status(number).recent, "temperature_c", 0.0) for number in range(420)
    )


def test_joined_points_keep_the_worst_and_stay_within_their_session() -> None:
    windows = build_device_report(day(300, restart_at=151)).points
    assert all(point.num_windows == 1 for point in windows)
    joined = join_points(windows, 40)

    assert len(joined) <= 42
    assert sum(point.num_windows for point in joined) == 300
    assert max(point.max_ms or 0 for point in joined) == max(point.max_ms or 0 for point in windows)
    assert {point.session for point in joined} == {0, 1}
    assert any(point.was_slowed for point in joined) == any(point.was_slowed for point in windows)
    assert len(build_device_report(day(2 * MAX_POINTS + 1, restart_at=10_000)).points) <= MAX_POINTS


def test_events_tell_losses_heat_restart_and_drift() -> None:
    said = texts(day())

    assert "the camera was lost" in said
    assert "the camera was lost (no frame for 2.0 s)" in said
    assert "the camera is streaming" in said
    assert "the agent was started again" in said
    assert any(text.startswith("the board was slowed down (throttled)") for text in said)
    assert "the board runs at full speed again" in said
    assert said[-1] == "classes: drifted"


def test_clock_that_jumps_is_an_event_and_bends_no_axis() -> None:
    before, after = status(0), status(1)
    set_clock = msgspec.structs.replace(after, time_unix_s=after.time_unix_s + 10 * 365.25 * 86_400)
    report = build_device_report(record(before, set_clock, status(2)))

    assert [event.text for event in report.events] == [
        "the clock jumped 3,652 days forward", "the clock jumped 3,652 days back",
    ]  # fmt: skip
    assert report.seconds == 30.0
    assert [point.ends_s for point in report.points] == [10.0, 20.0, 30.0]


def test_gap_in_the_record_is_an_event_and_a_cut_in_the_curve() -> None:
    report = build_device_report(record(status(0), status(1), status(30), status(31)))

    assert [event.text for event in report.events] == ["nothing recorded for 4 min 40 s"]
    chart = device_charts.rate_chart(report)
    assert chart is not None
    assert all(len(line.paths) == 2 for line in chart.lines)


def test_other_model_and_wedge_are_events() -> None:
    swapped = msgspec.structs.replace(status(1), model=model(release=8))
    wedged = msgspec.structs.replace(
        status(2), state="wedged", detail="inference has not moved for 15 s", model=model(8)
    )
    report = build_device_report(record(status(0), swapped, wedged))

    assert [event.text for event in report.events] == [
        "another model serves: mobilenet_v2_w0.5, release 8",
        "the agent is wedged (inference has not moved for 15 s)",
    ]
    assert mood(report) == "failed"
    assert headline(report) == "A part of the agent no longer moves"
    assert "inference has not moved for 15 s" in remarks(report)


def test_mood_is_good_only_when_nothing_is_wrong() -> None:
    assert mood(build_device_report(record(status(0), status(1)))) == "passed"
    assert mood(build_device_report(day())) == "unverified"
    assert mood(build_device_report(record(status(0), status(305)))) == "failed"
    assert headline(build_device_report(record(status(0), status(305)))) == "The camera is lost"
    assert mood(build_device_report(bare())) == "unverified"


def test_host_beside_board_is_the_same_file_and_runtime(report: Report) -> None:
    side = compare_host(report, model(), stages(1000))

    assert (side.file, side.accuracy, side.num_pictures) == ("model.tflite", 0.937, 1000)
    assert side.latency is not None
    assert side.latency.file == "model.tflite"
    assert side.ratio_p50 == pytest.approx(14.2 / side.latency.p50_ms)
    rows = {row.name: (row.host_bytes, row.board_bytes) for row in size_rows(model(), report)}
    assert rows == {
        "float ONNX": (2_812_345, None), "packed (.ekz)": (661_220, 661_220), "model file": (731_904, 731_904),
    }  # fmt: skip


def test_another_file_is_not_compared(report: Report) -> None:
    other = msgspec.structs.replace(model(), file_bytes=1234)
    side = compare_host(report, other, stages(1000))

    assert (side.file, side.latency, side.ratio_p50, side.accuracy) == (None, None, None, None)
    assert {row.name: row.host_bytes for row in size_rows(other, report)}["model file"] is None
    told = build_device_report(record(msgspec.structs.replace(status(0), model=other)), report)
    assert any("another file" in remark for remark in remarks(told))
    assert compare_host(report, None, stages(0)).file is None


def test_packed_tflite_does_not_stand_beside_an_onnx_file(report: Report) -> None:
    onnx = msgspec.structs.replace(model(), file_bytes=report.sizes.onnx_bytes, runtime="onnxruntime 1.32.0")

    assert compare_host(report, onnx, stages(100)).file == "model.onnx"
    assert {row.name: row.host_bytes for row in size_rows(onnx, report)}["packed (.ekz)"] is None


def test_charts_of_a_bare_record_are_none() -> None:
    report = build_device_report(bare())

    for chart in (device_charts.latency_chart, device_charts.temperature_chart, device_charts.rate_chart):
        assert chart(report) is None
    assert device_charts.confidence_chart(report) is None
    assert all(bar.p50_at == 0.0 for bar in device_charts.stage_bars(report.stages))


def test_charts_stay_in_their_box() -> None:
    report = build_device_report(day())
    for draw in (device_charts.latency_chart, device_charts.temperature_chart, device_charts.rate_chart):
        chart = draw(report)
        assert chart is not None
        for line in chart.lines:
            for path in line.paths:
                for pair in path.split():
                    x, y = (float(number) for number in pair.split(","))
                    assert 0 <= x <= 1000
                    assert 0 <= y <= 100
        assert all(0 <= band.at <= 1000 for band in chart.bands)
        assert sum(band.width for band in chart.bands) / 1000 == pytest.approx(report.share_slowed, abs=0.03)
        assert len(chart.losses) == 2
        assert chart.restarts == (pytest.approx(1000 * 240 / 420, abs=0.01),)
        assert 2 <= len(chart.times) <= 7
        assert 2 <= len(chart.levels) <= 7


def test_json_of_a_report_comes_back() -> None:
    report = build_device_report(day())

    assert msgspec.json.decode(msgspec.json.encode(report), type=type(report)) == report


@pytest.mark.parametrize(
    ("seconds", "words"), [(90.0, "1 min 30 s forward"), (-86_400.0, "24 h 00 min back"), (1e300, "forward")]
)
def test_jumps_are_told_in_words(seconds: float, words: str) -> None:
    assert describe_jump(seconds).endswith(words)


@pytest.mark.parametrize("unix_s", [-1e15, 1e15, float("nan"), float("inf")])
def test_times_that_no_calendar_holds_are_no_times(unix_s: float) -> None:
    assert format_time(unix_s) == "no time"
