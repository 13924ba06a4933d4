"""Once a second: put the snapshot together and hand it to everybody who tells it outside."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from edgekit.core.device_status import DeviceStatus

_RATE_SPAN_S = 5.0


class StatusSink(Protocol):
    """Who wants the snapshots. Called in the reporter's thread: it must not block for long, and raise nothing."""

    def offer(self, status: DeviceStatus) -> None:
        """Take one."""
        ...


class RateMeter:
    """Events per second over the last seconds, from a counter that is looked at now and then.

    >>> meter = RateMeter()
    >>> meter.update(0.0, 0), meter.update(1.0, 30), meter.update(2.0, 60)
    (0.0, 30.0, 30.0)
    """

    def __init__(self, span_s: float = _RATE_SPAN_S) -> None:
        self._span_s = span_s
        self._points: deque[tuple[float, int]] = deque()

    def update(self, now_s: float, count: int) -> float:
        """Take the counter in, and give the rate; 0 until it was seen twice."""
        self._points.append((now_s, count))
        while len(self._points) > 2 and now_s - self._points[1][0] >= self._span_s:
            self._points.popleft()
        first_s, first_count = self._points[0]
        return (count - first_count) / (now_s - first_s) if now_s > first_s else 0.0


class Reporter:
    """A thread that makes a snapshot every second.

    Args:
        collect: Makes one.
        sinks: Get each one, in this order.
        interval_s: Between two.
        beat: Called with each, so that a watchdog sees that the thread moves.
    """

    def __init__(
        self,
        collect: Callable[[], DeviceStatus],
        sinks: Sequence[StatusSink],
        *,
        interval_s: float = 1.0,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._collect = collect
        self._sinks = tuple(sinks)
        self._interval_s = interval_s
        self._beat = beat
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgekit-reporter", daemon=True)

    def start(self) -> None:
        """Begin; the first snapshot is made at once."""
        self._thread.start()

    def stop(self) -> None:
        """Make one last snapshot, which says that the agent is stopping, and end. Idempotent."""
        self._stop.set()
        self._hurry.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self._interval_s + 1)

    def hurry(self) -> None:
        """Make the next snapshot at once: something has changed that nobody should be told late. Any thread may."""
        self._hurry.set()

    def report(self) -> None:
        """Make one snapshot now."""
        status = self._collect()
        for sink in self._sinks:
            sink.offer(status)

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._stop.is_set():
            self._beat()
            now_s = time.monotonic()
            self.report()
            if now_s >= due_s:  # else it was hurried, and the grid stays
                # a slow snapshot does not slow the next ones down; missed ones are left out
                due_s = max(due_s + self._interval_s, time.monotonic())
            self._hurry.wait(max(0.0, due_s - time.monotonic()))
            self._hurry.clear()
        self.report()
