"""Windows and totals: nothing lost between them, and the board joined to each."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from edgekit.agent.telemetry.latency import WINDOW_S, LatencyRecorder
from edgekit.core.device_status import STAGES, SystemStatus
from edgekit.core.frame import Answer

MakeAnswer = Callable[..., Answer]
MakeSystem = Callable[..., SystemStatus]


@pytest.fixture
def recorder(clock: Callable[[], float], wall_clock: Callable[[], float]) -> LatencyRecorder:
    return LatencyRecorder(clock=clock, wall_clock=wall_clock)


def test_stages_come_in_their_order_and_end_to_end_is_their_sum(
    recorder: LatencyRecorder, make_answer: MakeAnswer
) -> None:
    recorder.record(make_answer(10.0))

    total = recorder.total()
    assert tuple(stage.stage for stage in total) == STAGES
    assert [stage.max_ms for stage in total] == pytest.approx([5.0, 1.0, 10.0, 0.1, 16.1])
    assert all(stage.n == 1 and stage.p90_ms is None and stage.p99_ms is None for stage in total)
    assert total[2].p50_ms == pytest.approx(10.0, rel=0.008)


def test_total_holds_what_closed_windows_held_and_what_is_open(
    recorder: LatencyRecorder, make_answer: MakeAnswer
) -> None:
    for inference_ms in (1.0, 2.0, 3.0):
        recorder.record(make_answer(inference_ms))
    first = recorder.close_window()
    recorder.record(make_answer(9.0))

    assert first.stages[2].n == 3
    assert first.stages[2].max_ms == pytest.approx(3.0)
    assert recorder.total()[2].n == 4
    assert recorder.total()[2].max_ms == pytest.approx(9.0)
    second = recorder.close_window()
    assert second.stages[2].n == 1
    assert recorder.total()[2].n == 4
    assert recorder.total()[2].mean_ms == pytest.approx(15 / 4)


def test_window_has_rates_over_its_monotonic_length(
    recorder: LatencyRecorder, make_answer: MakeAnswer, clock: Callable[[], float]
) -> None:
    assert not recorder.is_due()
    for _ in range(50):
        recorder.record(make_answer())
    clock.now_s += WINDOW_S  # type: ignore[attr-defined]

    assert recorder.is_due()
    window = recorder.close_window(num_grabbed=300)
    assert (window.seconds, window.fps_out, window.fps_in) == (10.0, 5.0, 30.0)
    clock.now_s += WINDOW_S  # type: ignore[attr-defined]
    assert recorder.close_window(num_grabbed=450).fps_in == 15.0


def test_window_without_answers_says_so(recorder: LatencyRecorder, clock: Callable[[], float]) -> None:
    clock.now_s += WINDOW_S  # type: ignore[attr-defined]
    window = recorder.close_window()

    assert window.fps_out == 0.0
    assert all(stage.n == 0 and stage.p50_ms is None for stage in window.stages)
    assert (window.was_slowed, window.temperature_c) == (None, None)


@pytest.mark.parametrize("jump_s", [-10 * 365 * 86_400.0, 30 * 365 * 86_400.0])
def test_wall_clock_that_jumps_by_years_changes_no_length(jump_s: float, make_answer: MakeAnswer) -> None:
    seconds, unix_s = [50.0], [1_700_000_000.0]
    recorder = LatencyRecorder(clock=lambda: seconds[0], wall_clock=lambda: unix_s[0])
    recorder.record(make_answer())
    seconds[0] += 10.0
    unix_s[0] += jump_s

    assert recorder.close_window().started_unix_s == 1_700_000_000.0
    seconds[0] += 10.0
    second = recorder.close_window()
    assert (second.seconds, second.started_unix_s) == (10.0, 1_700_000_000.0 + jump_s)


def test_throttling_seen_once_marks_its_window_alone(recorder: LatencyRecorder, make_system: MakeSystem) -> None:
    for throttled, temperature_c in ((False, 60.0), (True, 81.5), (False, 79.0)):
        recorder.observe(make_system(temperature_c, throttled=throttled))
    window = recorder.close_window(make_system(70.0, throttled=False))

    assert window.was_slowed is True
    assert window.temperature_c == 81.5
    after = recorder.close_window(make_system(65.0, throttled=False))
    assert (after.was_slowed, after.temperature_c) == (False, 65.0)


def test_throttling_between_two_looks_is_noticed_by_what_the_board_remembers(
    recorder: LatencyRecorder, make_system: MakeSystem
) -> None:
    before_start = make_system(throttled=False, occurred=("under_voltage",))
    since = make_system(throttled=False, occurred=("under_voltage", "throttled"))

    assert recorder.close_window(before_start).was_slowed is False
    assert recorder.close_window(since).was_slowed is True
    assert recorder.close_window(since).was_slowed is False


def test_nothing_is_lost_while_windows_close_in_another_thread(
    recorder: LatencyRecorder, make_answer: MakeAnswer
) -> None:
    answer, num_answers = make_answer(), 20_000
    writer = threading.Thread(target=lambda: [recorder.record(answer) for _ in range(num_answers)])
    counted = 0
    writer.start()
    while writer.is_alive():
        window = recorder.close_window()
        assert len({stage.n for stage in window.stages}) == 1
        counted += window.stages[0].n
    writer.join()
    counted += recorder.close_window().stages[0].n

    assert counted == num_answers
    assert {stage.n for stage in recorder.total()} == {num_answers}
