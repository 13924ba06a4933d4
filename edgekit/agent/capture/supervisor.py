"""Keeps a camera running for ever: starts the capture process, opens, watches, kills, waits, opens again."""

from __future__ import annotations

import random
import select
import threading
import time
from collections.abc import Callable

from edgekit.agent.camera import CAMERAS, CameraRequest, check_camera, look_at, show_source
from edgekit.agent.capture.course import Course
from edgekit.agent.capture.link import NEVER_NS, AgentLink, Bell, Counters, SpentLink
from edgekit.agent.capture.messages import Ended, Lost, Open, Opened, Ready
from edgekit.agent.capture.rules import SECOND_NS
from edgekit.agent.capture.worker import CaptureProcess
from edgekit.core.device_status import CameraStatus
from edgekit.core.errors import UsageError
from edgekit.core.frame import Frame, TimeSource

_TICK_S = 0.5
_WATCH_TICK_S = 0.1
_KILL_PATIENCE_S = 0.5
_MAX_UNREAPED = 4
"""While so many children that were killed do not die (their driver hangs), no further one is sent after them."""

_MAX_OPENINGS = 64
"""After so many openings the child is replaced: what libraries leak when they reopen goes with it."""


def _ignore() -> None:
    pass


class CaptureSupervisor:
    """A camera, for one consumer. `take` and `want` are the consumer's; any thread may call the others.

    Args:
        request: What to open.
        beat: Called at least every second from the supervisor's thread.

    Raises:
        EdgekitError: As `check_camera`.
    """

    def __init__(self, request: CameraRequest, *, beat: Callable[[], None] = _ignore) -> None:
        check_camera(request)
        kind = CAMERAS.load(request.kind)
        self._request = request
        self._beat = beat
        self._watched = kind.watched_path(request) if kind.watched_path is not None else None
        self._was_there = True
        self._course = Course(request, is_live=kind.is_live, random=random.random)
        self._lock = threading.Lock()  # guards the course, the link and the child
        self._taking = threading.Lock()  # held while the consumer waits
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._is_stopped = False
        self._bell = Bell()
        self._taken = Bell()
        self._wake = Bell()
        self._link: AgentLink | SpentLink = SpentLink(Counters())
        self._child: CaptureProcess | None = None
        self._unreaped: list[CaptureProcess] = []
        self._num_openings = 0
        self._num_taken = 0
        self._last_taken = -1
        self._newest_size = (0, 0)  # (height, width) as the camera sent it
        self._time_source: TimeSource = "arrival"
        self._want_ns = NEVER_NS

    # ------------------------------------------------------------------------------------------------- the consumer
    def start(self) -> None:
        """Start to open the camera; returns at once.

        Raises:
            UsageError: It was stopped already.
        """
        if self._is_stopping:
            raise UsageError("this capture was stopped", hint="make a new one")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Kill the child and let go of everything, within a second. `take` returns None from now on."""
        self._is_stopping = True
        with self._lock:
            if self._is_stopped:
                return
            self._wake.ring()
            self._bell.ring()
        if self._thread is not None:
            self._thread.join()
        with self._taking, self._lock:
            if self._is_stopped:
                return
            self._is_stopped = True
            self._link = SpentLink(self._link.counters())
            for bell in (self._bell, self._taken, self._wake):
                bell.close()

    def want(self, at_ns: int) -> None:
        """Say when the next frame will be taken, on CLOCK_MONOTONIC: what comes long before is not even decoded."""
        self._want_ns = at_ns
        self._link.want(at_ns)

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame that was not taken yet; waits for it. The picture is valid until the next call.

        Returns:
            None when none came in time, when the file is over, and after `stop`.
        """
        deadline_ns = time.monotonic_ns() + round(timeout_s * SECOND_NS)
        with self._taking:
            if time.monotonic_ns() < self._want_ns:
                self.want(time.monotonic_ns())
            while not self._is_stopping:
                is_over = self._course.phase == "ended"
                frame = self._link.take()
                if frame is not None:
                    self._note(frame)
                    return frame
                remaining_s = (deadline_ns - time.monotonic_ns()) / SECOND_NS
                if is_over or remaining_s <= 0:
                    return None
                self._bell.wait(remaining_s)
            return None

    def status(self) -> CameraStatus:
        """What the camera does now."""
        with self._lock:
            now_ns = time.monotonic_ns()
            counters = self._link.counters()
            state, detail = self._course.state(now_ns, counters)
            height, width = self._newest_size
            num_pending = int(counters.published > self._last_taken)
            return CameraStatus(
                kind=self._request.kind,
                source=show_source(self._request),
                state=state,
                detail=detail,
                width=width or self._course.facts.width,
                height=height or self._course.facts.height,
                declared_fps=self._request.fps or self._course.facts.fps,
                fps_in=self._course.fps_in(now_ns, counters),
                num_grabbed=counters.num_grabbed,
                num_dropped=max(0, counters.num_grabbed - self._num_taken - num_pending),
                num_lost=self._course.num_lost,
                retry_in_s=self._course.retry_in_s(now_ns),
                time_source=self._time_source,
            )

    def pids(self) -> tuple[int, ...]:
        """Process ids of the capture, for accounting."""
        with self._lock:
            return (self._child.pid,) if self._child is not None else ()

    def _note(self, frame: Frame) -> None:
        self._taken.ring()
        self._num_taken += 1
        self._last_taken = frame.sequence
        self._newest_size = frame.full_size or (frame.picture.shape[0], frame.picture.shape[1])
        self._time_source = frame.time_source

    # --------------------------------------------------------------------------------------------------- the thread
    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._beat()
                self._turn()
        finally:
            with self._lock:
                self._end_child()
                self._reap(_KILL_PATIENCE_S / 2)
            self._bell.ring()

    def _turn(self) -> None:
        """Do what is due, then wait for the child to say something, or for the next thing to be due."""
        with self._lock:
            counters = self._link.counters()
            self._look_for_device()
            step = self._course.choose_step(time.monotonic_ns(), counters)
            if step == "spawn":
                self._spawn()
            elif step == "open":
                self._open()
            elif step == "kill":
                self._lose(self._course.explain_kill())
            self._reap(0)
            if self._course.phase == "ended" and self._child is not None:
                self._end_child()
                self._bell.ring()
            deadline_ns = self._course.deadline_ns(self._link.counters())
            tick_s = _WATCH_TICK_S if self._watched is not None and self._course.phase == "waiting" else _TICK_S
            waits_ns = _TICK_S * SECOND_NS if deadline_ns is None else deadline_ns - time.monotonic_ns()
            child = self._child
        timeout_ms = max(0, min(tick_s * 1000, waits_ns / 1e6 + 1))
        poll = select.poll()
        for descriptor in (self._wake.descriptor, *(child.descriptors if child is not None else ())):
            poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(timeout_ms)}
        if child is not None and ready.intersection(child.descriptors):
            with self._lock:
                self._listen(child)

    def _listen(self, child: CaptureProcess) -> None:
        child.read_errors()
        for message in child.receive():
            if self._child is not child:
                return
            now_ns = time.monotonic_ns()
            counters = self._link.counters()
            if message is None:
                self._lose(None)
            elif isinstance(message, Ready):
                self._course.ready(now_ns)
            elif isinstance(message, Opened):
                self._course.opened(now_ns, message.facts, counters)
            elif isinstance(message, Lost):
                is_worn = self._num_openings >= _MAX_OPENINGS
                if is_worn:  # now, so that the next one is warm when the wait is over
                    self._end_child()
                self._course.lost(now_ns, message.detail, counters, child_died=is_worn)
                self._was_there = self._watched is not None and look_at(self._watched) is not None
            elif isinstance(message, Ended):
                self._course.ended(now_ns)

    def _spawn(self) -> None:
        counters = self._link.counters()
        self._num_openings = 0
        if len(self._unreaped) >= _MAX_UNREAPED:
            why = f"{len(self._unreaped)} capture processes cannot be killed: the camera's driver hangs"
            self._course.lost(time.monotonic_ns(), why, counters, child_died=True)
            return
        try:
            link = AgentLink(counters.num_grabbed)
            try:
                self._child = CaptureProcess(self._request.kind, link, self._bell, self._taken)
            finally:
                link.close_descriptor()
        except OSError as error:
            self._course.lost(time.monotonic_ns(), f"no capture process: {error}", counters, child_died=True)
            return
        self._link = link
        link.want(self._want_ns)  # read after the link is in place: `want` writes in the other order
        self._course.spawned(time.monotonic_ns())

    def _open(self) -> None:
        if self._child is None:
            return
        self._num_openings += 1
        self._course.opening(time.monotonic_ns(), self._link.counters())  # counted before a frame can come
        self._child.open_camera(Open(request=self._request))

    def _lose(self, why: str | None) -> None:
        """The child is to be killed, for the reason given, or is dead already."""
        counters = self._link.counters()
        child = self._child
        self._end_child()
        detail = why if why is not None or child is None else child.explain_death()
        self._course.lost(time.monotonic_ns(), detail or "", counters, child_died=True)
        self._was_there = self._watched is not None and look_at(self._watched) is not None

    def _end_child(self) -> None:
        if self._child is not None and not self._child.end(_KILL_PATIENCE_S):
            self._unreaped.append(self._child)
        self._child = None

    def _reap(self, patience_s: float) -> None:
        """Forget children that were killed and that the kernel (a driver that hangs) has let go of by now."""
        deadline = time.monotonic() + patience_s
        while self._unreaped:
            self._unreaped = [child for child in self._unreaped if not child.reap()]
            if time.monotonic() >= deadline:
                return
            time.sleep(0.01)

    def _look_for_device(self) -> None:
        if self._watched is None or self._course.phase not in {"starting", "waiting"}:
            return
        is_there = look_at(self._watched) is not None
        if is_there and not self._was_there:
            self._course.appeared(time.monotonic_ns())
        self._was_there = is_there
