"""What is decided about a camera, without touching one: times, rates, deadlines, back-off, when to decode."""

from __future__ import annotations

import zlib
from collections import deque

import numpy as np
import numpy.typing as npt

from edgekit.agent.camera import CameraRequest
from edgekit.core.frame import TimeSource

SECOND_NS = 1_000_000_000

MIN_READ_TIMEOUT_S = 2.0
"""A camera without a frame for this long is lost, unless it declares to be slow."""

OPEN_TIMEOUT_S = 15.0
"""How long an opening may take. Network cameras give up by themselves before."""

FIRST_FRAME_TIMEOUT_S = 5.0
"""How long the first frame after an opening may take at least: sensors settle, streams wait for a whole picture."""

MIN_BACKOFF_S, MAX_BACKOFF_S = 0.5, 8.0
"""Shortest and longest wait before a lost camera is opened again."""

_OLDEST_NS = 2 * SECOND_NS
_FUTURE_NS = 5_000_000
_UNKNOWN_PERIOD_NS = 3600 * SECOND_NS


def find_read_timeout_s(request: CameraRequest, declared_fps: float | None) -> float:
    """How long one frame may take before the camera counts as lost, seconds.

    >>> find_read_timeout_s(CameraRequest(kind="mjpeg"), 30.0)
    2.0
    >>> find_read_timeout_s(CameraRequest(kind="mjpeg", fps=1 / 60), None)
    180.0
    """
    if request.read_timeout_s is not None:
        return request.read_timeout_s
    fps = request.fps or declared_fps
    return max(MIN_READ_TIMEOUT_S, 3 / fps) if fps else MIN_READ_TIMEOUT_S


def find_own_timeout_s(request: CameraRequest, declared_fps: float | None, *, is_first: bool = False) -> float:
    """When a camera should give up by itself, seconds: a little before it would be killed.

    Args:
        request: What was asked.
        declared_fps: What it declares.
        is_first: Whether no frame has come yet since it was opened.

    >>> find_own_timeout_s(CameraRequest(kind="mjpeg"), None, is_first=True)
    4.5
    """
    timeout_s = find_read_timeout_s(request, declared_fps)
    return 0.9 * (max(timeout_s, FIRST_FRAME_TIMEOUT_S) if is_first else timeout_s)


def choose_backoff_s(outage_s: float, random: float) -> float:
    """How long to wait before the next opening, seconds.

    It grows with the outage, not with the number of tries: an eighth of it, so the wait never makes an outage more
    than an eighth longer (but for the half second it begins with).

    Args:
        outage_s: How long the camera has been away.
        random: 0..1, the jitter: boards that lost the same camera at once come back one after the other.

    >>> choose_backoff_s(0.0, 0.0), choose_backoff_s(24.0, 1.0), choose_backoff_s(3600.0, 1.0)
    (0.5, 3.0, 8.0)
    """
    longest = min(MAX_BACKOFF_S, max(4 / 3 * MIN_BACKOFF_S, outage_s / 8))
    return longest * (0.75 + 0.25 * random)


def choose_capture_time(
    claimed_ns: int, source: TimeSource, arrived_ns: int, previous_ns: int
) -> tuple[int, TimeSource]:
    """The capture time that a frame gets, and whose clock it is.

    A driver's time counts when it can be true: not in the future, not older than two seconds, not before the frame
    before. Otherwise the frame was captured when it arrived, and at least after the frame before.

    Args:
        claimed_ns: What the camera says, on what should be CLOCK_MONOTONIC.
        source: Whose clock that is.
        arrived_ns: When the frame arrived, on CLOCK_MONOTONIC.
        previous_ns: Capture time of the frame before; 0 for the first.

    >>> choose_capture_time(990, "driver", 1000, 500), choose_capture_time(400, "driver", 1000, 500)
    ((990, 'driver'), (1000, 'arrival'))
    """
    is_plausible = arrived_ns - _OLDEST_NS <= claimed_ns <= arrived_ns + _FUTURE_NS and claimed_ns > previous_ns
    if is_plausible:
        return min(claimed_ns, arrived_ns), source
    return max(arrived_ns, previous_ns), "arrival"


def is_worth_decoding(now_ns: int, period_ns: int, decode_ns: int, want_ns: int) -> bool:
    """Whether the frame that just came is the one to decode, or the next one will still be in time.

    Args:
        now_ns: Now.
        period_ns: Time between frames, as seen lately; 0 when it is not known.
        decode_ns: What decoding takes, as seen lately.
        want_ns: When the agent will take a frame; in the past when it waits already.

    >>> is_worth_decoding(0, 33, 5, 10), is_worth_decoding(0, 33, 5, 100)
    (True, False)
    """
    if not period_ns:  # the first frame: the next may be a minute away
        period_ns = _UNKNOWN_PERIOD_NS
    slack_ns = period_ns // 8  # a frame that comes a little late must not make the agent wait for it
    return now_ns + period_ns + slack_ns + decode_ns > want_ns


def fingerprint(content: npt.NDArray[np.uint8] | bytes) -> int:
    """A number that equal pictures share, from every 16th pixel of every 16th row, or every 61st byte of a JPEG."""
    if isinstance(content, bytes):
        return zlib.crc32(content[::61], len(content))
    return zlib.crc32(content[::16, ::16].tobytes())


class Average:
    """A running average over about the last eight values; the first counts in full."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, value: int) -> None:
        """Take one more value in."""
        self.value = value if not self.value else self.value + (value - self.value) // 8


class RateMeter:
    """Frames per second over the last seconds, from looks at a counter.

    Args:
        window_s: How far back; at least three periods of the camera.
    """

    def __init__(self, window_s: float = 3.0) -> None:
        self.window_ns = round(window_s * SECOND_NS)
        self._looks: deque[tuple[int, int]] = deque()

    def restart(self, now_ns: int, count: int) -> None:
        """Forget what was before."""
        self._looks.clear()
        self.look(now_ns, count)

    def look(self, now_ns: int, count: int) -> None:
        """Note the counter."""
        looks = self._looks
        if looks and now_ns - looks[-1][0] < self.window_ns // 32:
            return
        looks.append((now_ns, count))
        while len(looks) > 2 and looks[1][0] <= now_ns - self.window_ns:
            looks.popleft()

    def rate(self, now_ns: int, count: int) -> float:
        """Frames per second from the oldest look in the window to now."""
        if not self._looks:
            return 0.0
        then_ns, before = self._looks[0]
        seconds = (now_ns - then_ns) / SECOND_NS
        return (count - before) / seconds if seconds > 0 else 0.0

    def is_full(self, now_ns: int) -> bool:
        """Whether it has seen its whole window."""
        return bool(self._looks) and now_ns - self._looks[0][0] >= self.window_ns
