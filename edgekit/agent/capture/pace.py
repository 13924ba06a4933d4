"""The pace of recorded frames: each is due one period after the one before, as from a camera."""

from __future__ import annotations

import time

_MAX_LATE_NS = 1_000_000_000


class Pace:
    """Waits until the next frame is due.

    Args:
        fps: Frames per second; None: every frame is due when it is asked for.
    """

    def __init__(self, fps: float | None) -> None:
        self._period_ns = round(1e9 / fps) if fps else 0
        self._due_ns = time.monotonic_ns()

    def wait(self) -> int:
        """Wait; when the frame was due, on CLOCK_MONOTONIC, nanoseconds.

        A reader that is late gets its frames at once, with the times at which they were due, until it has caught up.
        One that is a second late will not catch up: the clock of the recording then starts anew.
        """
        now_ns = time.monotonic_ns()
        if not self._period_ns or now_ns - self._due_ns > _MAX_LATE_NS:
            self._due_ns = now_ns
        while now_ns < self._due_ns:
            time.sleep((self._due_ns - now_ns) / 1e9)
            now_ns = time.monotonic_ns()
        due_ns = self._due_ns
        self._due_ns += self._period_ns
        return due_ns
