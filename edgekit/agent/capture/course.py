"""What becomes of a camera over time, decided from what was seen of it. No I/O, no clock of its own.

starting -> waiting -> opening -> streaming -> waiting -> ... ; a child that died or was killed goes back to starting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from edgekit.agent.camera import CameraFacts, CameraRequest
from edgekit.agent.capture.link import Counters
from edgekit.agent.capture.rules import (
    FIRST_FRAME_TIMEOUT_S,
    OPEN_TIMEOUT_S,
    SECOND_NS,
    RateMeter,
    choose_backoff_s,
    find_read_timeout_s,
)
from edgekit.core.device_status import CameraState

Phase: TypeAlias = Literal["starting", "waiting", "opening", "streaming", "ended"]
Step: TypeAlias = Literal["nothing", "spawn", "open", "kill"]

_START_TIMEOUT_S = 60.0
_SHOWN_BEFORE = 0.1
"""So much of its deadline before it is killed, a camera is shown as lost: within two seconds, that is, when a read may
take two."""

_STABLE_NS = 2 * SECOND_NS


class Course:
    """The state of one camera.

    Args:
        request: What was asked of it.
        is_live: Whether equal pictures in a row mean something.
        random: Gives the jitter, 0..1.
    """

    def __init__(self, request: CameraRequest, *, is_live: bool, random: Callable[[], float]) -> None:
        self._request = request
        self._is_live = is_live
        self._random = random
        self._since_ns = 0
        self._retry_ns = 0
        self._spawn_ns = 0
        self._outage_ns: int | None = None
        self._at_opening = Counters()
        self._has_child = False
        self._rate = RateMeter()
        self.phase: Phase = "starting"
        self.detail = ""
        self.facts = CameraFacts()
        self.num_lost = 0

    # ----------------------------------------------------------------------------------------------- what was seen
    def spawned(self, now_ns: int) -> None:
        """A child was started."""
        self._has_child = True
        self._enter("starting", now_ns)

    def ready(self, now_ns: int) -> None:
        """The child waits for work."""
        self._enter("waiting", now_ns)

    def opened(self, now_ns: int, facts: CameraFacts, counters: Counters) -> None:
        """The camera is open."""
        self._enter("streaming", now_ns)
        self.facts = facts
        fps = self._request.fps or facts.fps
        self._rate = RateMeter(max(3.0, 4 / fps) if fps else 3.0)
        self._rate.restart(now_ns, counters.num_grabbed)

    def lost(self, now_ns: int, detail: str, counters: Counters, *, child_died: bool) -> None:
        """The camera could not be opened, gave up, or its child is gone."""
        was_streaming = self.phase == "streaming"
        if was_streaming and self._has_recovered(now_ns, counters):
            self._outage_ns = None
        if was_streaming and counters.num_grabbed > self._at_opening.num_grabbed:
            self.num_lost += 1
        if self._outage_ns is None:
            self._outage_ns = now_ns
        self.detail = detail
        outage_s = (now_ns - self._outage_ns) / SECOND_NS
        self._retry_ns = now_ns + round(choose_backoff_s(outage_s, self._random()) * SECOND_NS)
        # The next child starts at once and is warm when the wait is over, unless it was none that worked.
        self._spawn_ns = self._retry_ns if self.phase == "starting" else now_ns
        self._has_child = not child_died
        self._enter("starting" if child_died else "waiting", now_ns)

    def ended(self, now_ns: int) -> None:
        """The file is over."""
        self._enter("ended", now_ns)

    def appeared(self, now_ns: int) -> None:
        """The device or file is there again: no need to wait longer."""
        self._retry_ns = min(self._retry_ns, now_ns)

    # -------------------------------------------------------------------------------------------------- what to do
    def choose_step(self, now_ns: int, counters: Counters) -> Step:
        """What to do now."""
        if self.phase == "starting":
            if not self._has_child:
                return "spawn" if now_ns >= self._spawn_ns else "nothing"
            return "kill" if now_ns - self._since_ns > _START_TIMEOUT_S * SECOND_NS else "nothing"
        if self.phase == "waiting":
            return "open" if now_ns >= self._retry_ns else "nothing"
        if self.phase == "streaming":
            self._rate.look(now_ns, counters.num_grabbed)
        deadline_ns = self.deadline_ns(counters)
        return "kill" if deadline_ns is not None and now_ns > deadline_ns else "nothing"

    def opening(self, now_ns: int, counters: Counters) -> None:
        """The child was told to open."""
        self._enter("opening", now_ns)
        self._at_opening = counters  # not when it says that it has: frames may have come by then

    def deadline_ns(self, counters: Counters) -> int | None:
        """When something is to be done next; None for nothing in sight."""
        if self.phase == "waiting":
            return self._retry_ns
        if self.phase == "starting":
            return None if self._has_child else self._spawn_ns
        if self.phase == "opening":
            return self._since_ns + round(OPEN_TIMEOUT_S * SECOND_NS)
        if self.phase != "streaming" or not counters.busy_since_ns:
            return None
        timeout_s = find_read_timeout_s(self._request, self.facts.fps)
        if counters.num_grabbed == self._at_opening.num_grabbed:
            return self._since_ns + round(max(timeout_s, FIRST_FRAME_TIMEOUT_S) * SECOND_NS)
        return counters.busy_since_ns + round(timeout_s * SECOND_NS)

    def explain_kill(self) -> str:
        """Why the child was killed, for people."""
        if self.phase == "streaming":
            return f"no picture for {find_read_timeout_s(self._request, self.facts.fps):.1f} s"
        return "opening takes too long" if self.phase == "opening" else "the capture process does not start"

    # ------------------------------------------------------------------------------------------------ what to show
    def state(self, now_ns: int, counters: Counters) -> tuple[CameraState, str]:
        """The state to show, and why."""
        if self.phase == "ended":
            return "ended", self.detail
        has_frame = counters.num_grabbed > self._at_opening.num_grabbed
        if self.phase != "streaming" or not has_frame:
            return ("opening", "") if self._outage_ns is None else ("lost", self.detail)
        deadline_ns = self.deadline_ns(counters)
        timeout_s = find_read_timeout_s(self._request, self.facts.fps)
        if deadline_ns is not None and now_ns > deadline_ns - _SHOWN_BEFORE * timeout_s * SECOND_NS:
            return "lost", f"no picture for {(now_ns - counters.busy_since_ns) / SECOND_NS:.1f} s"
        if self._is_live and counters.num_same >= self._request.frozen_after:
            return "frozen", f"the same picture {counters.num_same} times"
        fps = self._request.fps or self.facts.fps
        rate = self._rate.rate(now_ns, counters.num_grabbed)
        if fps and not self.facts.on_demand and self._rate.is_full(now_ns) and rate < fps / 2:
            return "degraded", f"{rate:.1f} of {fps:.1f} frames per second"
        return "streaming", f"{counters.num_damaged} damaged pictures" if counters.num_damaged else ""

    def fps_in(self, now_ns: int, counters: Counters) -> float:
        """Frames per second, over the last seconds; 0 when there is no stream."""
        return self._rate.rate(now_ns, counters.num_grabbed) if self.phase == "streaming" else 0.0

    def retry_in_s(self, now_ns: int) -> float | None:
        """Seconds until the camera is opened again; None when it is open, or being opened."""
        if self._outage_ns is None or self.phase not in {"starting", "waiting"}:
            return None
        return max(0.0, (self._retry_ns - now_ns) / SECOND_NS)

    def _enter(self, phase: Phase, now_ns: int) -> None:
        self.phase = phase
        self._since_ns = now_ns

    def _has_recovered(self, now_ns: int, counters: Counters) -> bool:
        """Whether the stream that is over now was a working one: it showed a picture, or frames for a while."""
        if counters.num_grabbed == self._at_opening.num_grabbed:
            return False
        has_shown = counters.published >= self._at_opening.num_grabbed
        return has_shown or now_ns - self._since_ns >= _STABLE_NS
