from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec
import pytest

from agent_statuses import healthy_status
from edgekit.agent.reporter import RateMeter, Reporter
from edgekit.core.device_status import DeviceStatus


class Sink:
    def __init__(self, wanted: int = 1) -> None:
        self.statuses: list[DeviceStatus] = []
        self.enough = threading.Event()
        self._wanted = wanted

    def offer(self, status: DeviceStatus) -> None:
        self.statuses.append(status)
        if len(self.statuses) >= self._wanted:
            self.enough.set()


def counted() -> Callable[[], DeviceStatus]:
    numbers = iter(range(1_000_000))
    return lambda: msgspec.structs.replace(healthy_status(), num_answers=next(numbers))


def test_reporter_gives_every_snapshot_to_every_sink_until_it_is_stopped() -> None:
    first, second = Sink(3), Sink(3)
    beats: list[int] = []
    reporter = Reporter(counted(), [first, second], interval_s=0.01, beat=lambda: beats.append(1))
    reporter.start()
    assert second.enough.wait(20)
    reporter.stop()
    assert first.statuses == second.statuses
    assert [status.num_answers for status in first.statuses] == list(range(len(first.statuses)))
    assert len(beats) == len(first.statuses) - 1  # the last snapshot is made on the way out


def test_reporter_makes_a_last_snapshot_when_it_is_stopped() -> None:
    sink = Sink()
    reporter = Reporter(counted(), [sink], interval_s=1000)
    reporter.start()
    assert sink.enough.wait(20)
    before = len(sink.statuses)
    reporter.stop()
    reporter.stop()
    assert len(sink.statuses) == before + 1


def test_reporter_makes_a_snapshot_at_once_when_it_is_hurried() -> None:
    sink = Sink(2)
    reporter = Reporter(counted(), [sink], interval_s=1000)
    reporter.start()
    reporter.hurry()
    assert sink.enough.wait(20)
    reporter.stop()


def test_hurried_snapshot_does_not_put_off_the_next_one() -> None:
    interval_s = 2.0
    sink = Sink(3)
    reporter = Reporter(counted(), [sink], interval_s=interval_s)
    began = time.monotonic()
    reporter.start()
    for _ in range(20):  # as often as it likes: the one that is due comes when it is due
        reporter.hurry()
        time.sleep(0.01)
    hurried = len(sink.statuses)
    while len(sink.statuses) == hurried and time.monotonic() < began + 20:
        time.sleep(0.01)
    reporter.stop()
    assert hurried >= 2
    # one period later, not one period for each time that it was hurried
    assert time.monotonic() < began + 10 * interval_s


def test_rate_follows_the_counter_over_the_last_seconds_only() -> None:
    meter = RateMeter(span_s=5)
    rates = [meter.update(float(second), 10 * second) for second in range(10)]
    assert rates[1:] == [10.0] * 9
    for second in range(10, 16):
        rate = meter.update(float(second), 90)  # nothing more comes
    assert rate == pytest.approx(0.0)
