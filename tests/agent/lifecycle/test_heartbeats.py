"""Who moves."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.agent.lifecycle.heartbeats import Heartbeats
from edgekit.core.errors import UsageError


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_part_is_overdue_when_it_has_been_silent_too_long(clock: Clock) -> None:
    heartbeats = Heartbeats(clock)
    beat = heartbeats.register("camera", 5)
    heartbeats.register("web", 20)
    clock.now += 5
    assert heartbeats.overdue() == ()
    clock.now += 1
    assert heartbeats.overdue() == ("camera",)
    beat()
    assert heartbeats.overdue() == ()
    clock.now += 30
    assert heartbeats.overdue() == ("camera", "web")


def test_part_that_has_ended_is_not_missed(clock: Clock) -> None:
    heartbeats = Heartbeats(clock)
    beat = heartbeats.register("camera", 5)
    heartbeats.unregister("camera")
    heartbeats.unregister("never there")
    beat()
    clock.now += 60
    assert heartbeats.overdue() == ()


def test_part_that_registers_again_starts_anew(clock: Clock) -> None:
    heartbeats = Heartbeats(clock)
    old = heartbeats.register("camera", 5)
    clock.now += 60
    heartbeats.register("camera", 5)
    assert heartbeats.overdue() == ()
    clock.now += 6
    old()  # of the part that is gone: it does not count for the new one
    assert heartbeats.overdue() == ("camera",)


@pytest.mark.parametrize("limit_s", [0, -1, float("nan")])
def test_limit_must_be_positive(limit_s: float) -> None:
    with pytest.raises(UsageError, match="expected more than 0"):
        Heartbeats().register("camera", limit_s)


@given(
    limits=st.lists(st.floats(0.1, 60), min_size=1, max_size=5),
    silences=st.lists(st.floats(0, 120), min_size=5, max_size=5),
)
def test_overdue_are_exactly_those_beyond_their_limit(limits: list[float], silences: list[float]) -> None:
    clock = Clock()
    heartbeats = Heartbeats(clock)
    beats = {f"part {index}": heartbeats.register(f"part {index}", limit) for index, limit in enumerate(limits)}
    last = max(silences)
    expected: list[str] = []
    for moment, name in sorted((last - silence, name) for name, silence in zip(beats, silences, strict=False)):
        clock.now = 1000 + moment
        beats[name]()
    clock.now = 1000 + last
    for (name, limit), silence in zip(zip(beats, limits, strict=True), silences, strict=False):
        if clock.now - (1000 + (last - silence)) > limit:
            expected.append(name)
    assert heartbeats.overdue() == tuple(sorted(expected))


def test_time_that_the_whole_process_lost_is_forgiven(clock: Clock) -> None:
    heartbeats = Heartbeats(clock)
    heartbeats.register("camera", 5)
    clock.now += 3600
    heartbeats.forgive(3598)
    assert heartbeats.overdue() == ()
    clock.now += 4
    assert heartbeats.overdue() == ("camera",)


def test_forgiveness_never_reaches_into_the_future(clock: Clock) -> None:
    heartbeats = Heartbeats(clock)
    heartbeats.register("camera", 5)
    heartbeats.forgive(1e9)
    clock.now += 6
    assert heartbeats.overdue() == ("camera",)


def test_any_thread_may_beat_and_register() -> None:
    heartbeats = Heartbeats()

    def work(number: int) -> None:
        for _ in range(300):
            heartbeats.register(f"part {number}", 60)()
            assert heartbeats.overdue() == ()
            heartbeats.unregister(f"part {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert heartbeats.overdue() == ()
