"""What is decided about times, rates and waits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.agent.camera import CameraRequest
from edgekit.agent.capture.rules import (
    MAX_BACKOFF_S,
    MIN_BACKOFF_S,
    SECOND_NS,
    Average,
    RateMeter,
    choose_backoff_s,
    choose_capture_time,
    find_own_timeout_s,
    find_read_timeout_s,
    fingerprint,
    is_worth_decoding,
)

TIMES = st.integers(0, 2**62)


@given(outage_s=st.floats(0, 1e9), jitter=st.floats(0, 1))
def test_backoff_stays_between_half_a_second_and_eight(outage_s: float, jitter: float) -> None:
    assert MIN_BACKOFF_S <= choose_backoff_s(outage_s, jitter) <= MAX_BACKOFF_S


@given(outage_s=st.floats(0, 1e9))
def test_backoff_makes_no_outage_longer_by_more_than_an_eighth_and_its_start(outage_s: float) -> None:
    assert choose_backoff_s(outage_s, 1.0) <= max(4 / 3 * MIN_BACKOFF_S, outage_s / 8)


def test_backoff_differs_between_boards() -> None:
    assert choose_backoff_s(100.0, 0.0) < choose_backoff_s(100.0, 0.5) < choose_backoff_s(100.0, 1.0)


@pytest.mark.parametrize(
    ("asked_fps", "declared_fps", "asked_s", "expected_s"),
    [
        (None, None, None, 2.0),
        (None, 30.0, None, 2.0),
        (None, 0.5, None, 6.0),
        (1 / 60, 30.0, None, 180.0),
        (30.0, 30.0, 0.25, 0.25),
    ],
)
def test_read_timeout_follows_the_declared_rate(
    asked_fps: float | None, declared_fps: float | None, asked_s: float | None, expected_s: float
) -> None:
    request = CameraRequest(kind="mjpeg", fps=asked_fps, read_timeout_s=asked_s)

    assert find_read_timeout_s(request, declared_fps) == pytest.approx(expected_s)
    assert find_own_timeout_s(request, declared_fps) < find_read_timeout_s(request, declared_fps)


@given(claimed_ns=TIMES, arrived_ns=TIMES, previous_ns=TIMES)
def test_capture_time_is_never_in_the_future_nor_before_the_frame_before(
    claimed_ns: int, arrived_ns: int, previous_ns: int
) -> None:
    previous_ns = min(previous_ns, arrived_ns)  # it had arrived before

    captured_ns, source = choose_capture_time(claimed_ns, "driver", arrived_ns, previous_ns)

    assert previous_ns <= captured_ns <= arrived_ns
    assert source == "arrival" or captured_ns == min(claimed_ns, arrived_ns)


@given(offset_ns=st.integers(1, 2 * SECOND_NS))
def test_capture_time_is_the_drivers_when_it_can_be_true(offset_ns: int) -> None:
    now_ns = 10 * SECOND_NS

    assert choose_capture_time(now_ns - offset_ns, "driver", now_ns, 0) == (now_ns - offset_ns, "driver")


@pytest.mark.parametrize("claimed_ns", [0, -5, 1_700_000_000 * SECOND_NS, 7 * SECOND_NS])
def test_capture_time_is_the_arrival_when_the_drivers_clock_is_another(claimed_ns: int) -> None:
    assert choose_capture_time(claimed_ns, "driver", 10 * SECOND_NS, 0) == (10 * SECOND_NS, "arrival")


def test_frame_is_decoded_when_somebody_waits_or_nothing_is_known() -> None:
    assert is_worth_decoding(1000, 33, 5, 0)
    assert is_worth_decoding(1000, 0, 0, 1000)


def test_frame_is_not_decoded_when_nobody_wants_one() -> None:
    assert not is_worth_decoding(1000, 33, 5, 1 << 62)


@given(phase=st.integers(0, 32), busy=st.integers(40, 1000))
def test_one_frame_for_each_want_is_decoded_when_frames_come_in_time(phase: int, busy: int) -> None:
    """A camera at 33, decoding in 5, a consumer that is ready after `busy`: it gets the newest that can be there."""
    want = phase + busy
    arrivals = range(phase, phase + 2 * busy, 33)

    decoded = [at for at in arrivals if at <= want and is_worth_decoding(at, 33, 5, want)]

    assert decoded
    assert len(decoded) <= 2
    assert want - decoded[-1] <= 33 + 5 + 33 // 8 + 1


def test_fingerprint_differs_when_the_picture_does() -> None:
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (480, 640, 3), np.uint8)
    noisy = picture + random.integers(0, 2, picture.shape, np.uint8)

    assert fingerprint(picture) == fingerprint(picture.copy())
    assert fingerprint(picture) != fingerprint(noisy)
    assert fingerprint(b"\xff\xd8" * 500) != fingerprint(b"\xff\xd8" * 501)


def test_rate_is_of_the_last_seconds_alone() -> None:
    meter = RateMeter(3.0)
    meter.restart(0, 100)
    count = 100
    for tick in range(1, 101):  # 5 s of 10 frames a tick of 0.05 s, then nothing
        count += 10
        meter.look(tick * SECOND_NS // 20, count)
    assert meter.rate(5 * SECOND_NS, count) == pytest.approx(200.0, rel=0.1)

    for tick in range(101, 201):
        meter.look(tick * SECOND_NS // 20, count)
    assert meter.rate(10 * SECOND_NS, count) == pytest.approx(0.0, abs=0.01)
    assert meter.is_full(10 * SECOND_NS)


def test_rate_meter_keeps_little() -> None:
    meter = RateMeter(3.0)
    for tick in range(100_000):
        meter.look(tick * SECOND_NS // 1000, tick)

    assert len(meter._looks) < 100


def test_rate_of_nothing_is_zero() -> None:
    assert RateMeter().rate(5, 5) == 0.0


def test_average_follows_what_it_is_given() -> None:
    average = Average()
    average.add(100)
    assert average.value == 100
    for _ in range(100):
        average.add(200)
    assert 190 <= average.value <= 200
