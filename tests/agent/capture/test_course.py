"""What becomes of a camera, with a clock that the test turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.agent.camera import CameraFacts, CameraRequest
from edgekit.agent.capture.course import Course
from edgekit.agent.capture.link import Counters
from edgekit.agent.capture.rules import MAX_BACKOFF_S, MIN_BACKOFF_S, SECOND_NS

REQUEST = CameraRequest(kind="synthetic", frozen_after=5)
FACTS = CameraFacts(width=64, height=48, fps=30.0)


class Story:
    """A course and a clock."""

    def __init__(self, request: CameraRequest = REQUEST, *, is_live: bool = True) -> None:
        self.course = Course(request, is_live=is_live, random=lambda: 1.0)
        self.now_ns = 100 * SECOND_NS
        self.grabbed = 0
        self.published = -1
        self.same = 0
        self.is_busy = True
        self.busy_ns = self.now_ns

    @property
    def counters(self) -> Counters:
        return Counters(
            num_grabbed=self.grabbed,
            busy_since_ns=self.busy_ns if self.is_busy else 0,
            published=self.published,
            num_same=self.same,
        )

    @property
    def step(self) -> str:
        return self.course.choose_step(self.now_ns, self.counters)

    @property
    def state(self) -> str:
        return self.course.state(self.now_ns, self.counters)[0]

    def pass_s(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND_NS)

    def stream(self, seconds: float, fps: float = 30.0) -> None:
        for _ in range(round(seconds * fps)):
            self.pass_s(1 / fps)
            self.published = self.grabbed
            self.grabbed += 1
            self.busy_ns = self.now_ns
            assert self.step == "nothing"

    def open(self, facts: CameraFacts = FACTS) -> None:
        if self.step == "spawn":
            self.course.spawned(self.now_ns)
            self.pass_s(0.2)
            self.course.ready(self.now_ns)
        while self.step != "open":
            self.pass_s(0.05)
        self.course.opening(self.now_ns, self.counters)
        self.pass_s(0.1)
        self.course.opened(self.now_ns, facts, self.counters)
        self.busy_ns = self.now_ns

    def lose(self, *, child_died: bool = False) -> None:
        self.course.lost(self.now_ns, "gone", self.counters, child_died=child_died)


def test_camera_is_opening_until_its_first_frame() -> None:
    story = Story()
    assert story.step == "spawn"
    assert story.state == "opening"
    story.open()
    assert story.state == "opening"

    story.stream(0.1)

    assert story.state == "streaming"
    assert story.course.num_lost == 0


def test_camera_is_killed_two_seconds_after_its_last_frame() -> None:
    story = Story()
    story.open()
    story.stream(1.0)

    story.pass_s(1.99)
    assert story.step == "nothing"
    story.pass_s(0.02)

    assert story.step == "kill"
    assert "no picture for 2.0 s" in story.course.explain_kill()


def test_camera_is_shown_as_lost_within_two_seconds_of_its_last_frame() -> None:
    story = Story()
    story.open()
    story.stream(1.0)

    story.pass_s(1.7)
    assert story.state == "streaming"
    story.pass_s(0.2)
    assert story.state == "lost"
    assert story.step == "nothing"
    story.stream(0.1)
    assert story.state == "streaming"


def test_camera_is_not_killed_while_it_waits_for_the_consumer() -> None:
    story = Story()
    story.open(CameraFacts(fps=30.0, on_demand=True))
    story.stream(1.0)
    story.is_busy = False

    story.pass_s(3600)

    assert story.step == "nothing"
    assert story.state == "streaming"


def test_camera_of_one_frame_a_minute_lives() -> None:
    story = Story(CameraRequest(kind="mjpeg", fps=1 / 60))
    story.open(CameraFacts())
    story.stream(1800, fps=1 / 60)

    assert story.state == "streaming"
    assert story.course.fps_in(story.now_ns, story.counters) == pytest.approx(1 / 60, rel=0.05)


def test_first_frame_may_take_longer_than_the_others() -> None:
    story = Story()
    story.open()

    story.pass_s(4.5)
    assert story.step == "nothing"
    story.pass_s(1.0)

    assert story.step == "kill"


def test_opening_that_hangs_is_killed() -> None:
    story = Story()
    story.course.spawned(story.now_ns)
    story.course.ready(story.now_ns)
    story.course.opening(story.now_ns, story.counters)
    story.pass_s(14)
    assert story.step == "nothing"

    story.pass_s(2)

    assert story.step == "kill"


def test_lost_camera_is_opened_again_after_the_wait() -> None:
    story = Story()
    story.open()
    story.stream(5.0)
    story.lose()

    assert story.state == "lost"
    assert story.course.detail == "gone"
    assert story.course.num_lost == 1
    wait_s = story.course.retry_in_s(story.now_ns)
    assert wait_s is not None
    assert MIN_BACKOFF_S <= wait_s <= 1.0
    assert story.step == "nothing"
    story.pass_s(wait_s)
    assert story.step == "open"
    story.open()
    assert story.state == "lost"  # no frame yet
    story.stream(0.1)
    assert story.state == "streaming"
    assert story.course.retry_in_s(story.now_ns) is None


def test_child_that_was_killed_is_replaced_at_once_and_opens_after_the_wait() -> None:
    story = Story()
    story.open()
    story.stream(1.0)
    story.lose(child_died=True)

    assert story.step == "spawn"
    story.course.spawned(story.now_ns)
    story.course.ready(story.now_ns)

    assert story.step == "nothing"
    story.pass_s(1.0)
    assert story.step == "open"


def test_child_that_dies_at_its_start_is_not_replaced_at_once() -> None:
    story = Story()
    story.course.spawned(story.now_ns)
    story.lose(child_died=True)

    assert story.step == "nothing"
    story.pass_s(1.0)
    assert story.step == "spawn"


@given(outage_s=st.floats(1.0, 7200.0))
def test_waits_grow_with_the_outage_and_end(outage_s: float) -> None:
    story = Story()
    story.open()
    story.stream(1.0)
    began_ns = story.now_ns
    waits: list[float] = []
    story.lose()
    while story.now_ns - began_ns < outage_s * SECOND_NS:
        wait_s = story.course.retry_in_s(story.now_ns)
        assert wait_s is not None
        waits.append(wait_s)
        story.pass_s(wait_s + 0.001)
        assert story.step == "open"
        story.course.opening(story.now_ns, story.counters)
        story.lose()

    assert all(MIN_BACKOFF_S <= wait <= MAX_BACKOFF_S for wait in waits)
    assert waits == sorted(waits)
    assert story.course.num_lost == 1


def test_outage_is_forgotten_when_a_picture_was_shown() -> None:
    story = Story()
    story.open()
    story.stream(1.0)
    story.lose()
    for _ in range(30):
        story.pass_s(8.1)
        story.course.opening(story.now_ns, story.counters)
        story.lose()
    story.open()
    story.stream(0.1)

    story.lose()

    wait_s = story.course.retry_in_s(story.now_ns)
    assert wait_s is not None
    assert wait_s <= 1.0


def test_outage_goes_on_when_frames_came_but_no_picture() -> None:
    story = Story()
    story.open()
    story.stream(1.0)
    story.lose()
    for _ in range(20):
        while story.step != "open":
            story.pass_s(0.1)
        story.course.opening(story.now_ns, story.counters)
        story.course.opened(story.now_ns, FACTS, story.counters)
        story.pass_s(0.3)
        story.grabbed += 10  # damaged ones
        story.lose()

    wait_s = story.course.retry_in_s(story.now_ns)
    assert wait_s is not None
    assert wait_s > 1.0


def test_device_that_appears_shortens_the_wait() -> None:
    story = Story()
    story.open()
    story.stream(1.0)
    story.lose()
    assert story.step == "nothing"

    story.course.appeared(story.now_ns)

    assert story.step == "open"


def test_equal_pictures_are_called_frozen_only_from_a_live_camera() -> None:
    live, recorded = Story(), Story(is_live=False)
    for story in (live, recorded):
        story.open()
        story.stream(1.0)
        story.same = 5

    assert live.state == "frozen"
    assert recorded.state == "streaming"
    live.same = 1
    assert live.state == "streaming"


def test_less_than_half_the_declared_rate_is_degraded() -> None:
    story = Story()
    story.open()
    story.stream(10.0)
    assert story.state == "streaming"

    story.stream(5.0, fps=12.0)

    assert story.state == "degraded"
    assert "12.0 of 30.0" in story.course.state(story.now_ns, story.counters)[1]


def test_rate_is_not_judged_before_it_is_known() -> None:
    story = Story()
    story.open()

    story.stream(1.0, fps=5.0)

    assert story.state == "streaming"


def test_ended_file_needs_nothing_more() -> None:
    story = Story(is_live=False)
    story.open()
    story.stream(1.0)
    story.course.ended(story.now_ns)

    story.pass_s(1000)

    assert story.step == "nothing"
    assert story.state == "ended"
    assert story.course.fps_in(story.now_ns, story.counters) == 0.0
