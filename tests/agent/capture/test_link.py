"""The shared memory, both ends in one process, and torn pictures hunted with two."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera_waits import count_descriptors, running, take
from edgekit.agent.camera import MAX_PIXELS, CameraLostError, Shot, copy_into, parse_camera
from edgekit.agent.capture import link
from edgekit.agent.capture.link import NEVER_NS, AgentLink, Bell, ChildLink
from edgekit.core.errors import DataError


class Pair:
    """Both ends."""

    def __init__(self, num_grabbed: int = 0) -> None:
        self.agent = AgentLink(num_grabbed)
        self.child = ChildLink(self.agent.descriptor)

    def publish(self, level: int, size: tuple[int, int, int] = (4, 6, 3), jpeg: bytes | None = None) -> int:
        sequence = self.child.count_grab()
        picture = copy_into(self.child.room, np.full(size, level % 256, np.uint8))
        order = "bgr" if size[2] == 3 else "gray"
        self.child.publish(sequence, 1000 + sequence, "driver", Shot(picture=picture, color_order=order, jpeg=jpeg))
        return sequence


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.agent.close_descriptor()


def test_frame_comes_over_whole(pair: Pair) -> None:
    pair.publish(7, (5, 3, 3), b"\xff\xd8jpeg\xff\xd9")

    frame = pair.agent.take()

    assert frame is not None
    assert frame.picture.shape == (5, 3, 3)
    assert (frame.picture == 7).all()
    assert not frame.picture.flags.writeable
    assert (frame.color_order, frame.sequence, frame.captured_ns, frame.time_source) == ("bgr", 0, 1000, "driver")
    assert frame.jpeg == b"\xff\xd8jpeg\xff\xd9"


def test_frame_is_taken_once(pair: Pair) -> None:
    assert pair.agent.take() is None
    pair.publish(1)

    assert pair.agent.take() is not None
    assert pair.agent.take() is None


def test_newest_frame_wins(pair: Pair) -> None:
    for level in range(10):
        pair.publish(level)

    frame = pair.agent.take()

    assert frame is not None
    assert frame.sequence == 9
    assert (frame.picture == 9).all()


def test_gray_and_growing_pictures_come_over(pair: Pair) -> None:
    for size in ((4, 4, 1), (480, 640, 3), (2, 2, 1), (1080, 1920, 3)):
        pair.publish(5, size)
        frame = pair.agent.take()
        assert frame is not None
        assert frame.picture.shape == size
        assert (frame.picture == 5).all()


@given(steps=st.lists(st.sampled_from(["publish", "take"]), max_size=60))
def test_frame_that_is_held_is_never_written(steps: list[str]) -> None:
    pair = Pair()
    try:
        held, newest, last_taken = None, -1, -1
        for step in steps:
            if step == "publish":
                newest = pair.publish(newest + 1)
            else:
                frame = pair.agent.take()
                assert (frame is None) == (newest == last_taken)
                held = frame if frame is not None else held
                last_taken = newest
            if held is not None:
                assert (held.picture == held.sequence % 256).all()
    finally:
        pair.agent.close_descriptor()


def test_sequence_goes_on_from_an_earlier_child() -> None:
    pair = Pair(num_grabbed=500)
    assert pair.agent.take() is None
    pair.publish(1)

    frame = pair.agent.take()

    assert frame is not None
    assert frame.sequence == 500
    assert pair.agent.counters().num_grabbed == 501
    pair.agent.close_descriptor()


def test_counters_tell_what_the_child_counts(pair: Pair) -> None:
    assert pair.agent.counters().published == -1
    pair.child.set_busy(77)
    pair.child.set_same(3)
    pair.child.count_damaged()
    pair.publish(0)
    pair.publish(0)

    counters = pair.agent.counters()

    assert (counters.num_grabbed, counters.published, counters.busy_since_ns) == (2, 1, 77)
    assert (counters.num_same, counters.num_damaged) == (3, 1)


def test_child_knows_what_was_taken_and_wanted(pair: Pair) -> None:
    assert pair.child.is_taken
    assert pair.child.want_ns == NEVER_NS
    pair.publish(0)
    assert not pair.child.is_taken

    pair.agent.take()
    pair.agent.want(12345)

    assert pair.child.is_taken
    assert pair.child.want_ns == 12345


@pytest.mark.parametrize("size", [(65500, 65500, 3), (MAX_PIXELS + 1, 1, 3), (0, 5, 3), (5, 5, 4)])
def test_room_is_refused_when_the_picture_is_too_large_or_strange(pair: Pair, size: tuple[int, int, int]) -> None:
    with pytest.raises(DataError, match="picture of"):
        pair.child.room(*size)


def test_picture_outside_the_shared_memory_is_not_published(pair: Pair) -> None:
    pair.child.room(4, 4, 3)
    with pytest.raises(CameraLostError, match="not in the shared memory"):
        pair.child.publish(0, 1, "driver", Shot(picture=np.zeros((4, 4, 3), np.uint8), color_order="bgr"))
    assert pair.agent.take() is None


def test_only_written_pages_take_memory(pair: Pair) -> None:
    pair.publish(1, (480, 640, 3))

    assert os.fstat(pair.agent.descriptor).st_size > 600_000_000
    assert os.fstat(pair.agent.descriptor).st_blocks * 512 < 1_100_000


def test_memory_goes_with_the_last_frame_that_shows_it() -> None:
    before = count_descriptors()
    pair = Pair()
    pair.publish(9)
    frame = pair.agent.take()
    pair.agent.close_descriptor()
    del pair
    assert frame is not None
    assert (frame.picture == 9).all()

    del frame

    assert count_descriptors() == before


def test_nothing_stays_open_when_there_is_no_place_for_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    before = count_descriptors()

    def no_place(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(link.mmap, "mmap", no_place)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        AgentLink()
    assert count_descriptors() == before


def test_bell_rings_once_for_many() -> None:
    bell = Bell()
    try:
        assert not bell.wait(0)
        bell.ring()
        bell.ring()
        assert bell.wait(0)
        assert not bell.wait(0)
    finally:
        bell.close()


@pytest.mark.parametrize("source", ["320x240@0,plain=1", "320x240@997,plain=1"])
def test_picture_is_never_torn_while_it_is_held(source: str) -> None:
    """The child paints every picture in one gray level; a torn one would show two."""
    request = parse_camera(f"synthetic:{source}")
    last = -1
    with running(request) as supervisor:
        for turn in range(300):
            frame = take(supervisor)
            for _ in range(turn % 7):
                assert frame.picture.min() == frame.picture.max()
            assert int(frame.picture[0, 0, 0]) == (frame.sequence + 1) % 256
            assert frame.sequence > last
            last = frame.sequence
