"""Latency of every stage, since the agent started and over the last window."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from edgekit.agent.telemetry.histogram import Histogram, to_ns
from edgekit.core.device_status import STAGES, LatencyWindow, StageLatency, StageName, SystemStatus
from edgekit.core.frame import Answer

WINDOW_S = 10.0
"""How long a window is, for who asks `LatencyRecorder.is_due`."""

_MAX_WAITING = 256


class LatencyRecorder:
    """Counts each answer's stages in histograms of constant memory (0.3 MiB in all).

    The inference loop records, one other thread (the reporter) asks. What was counted before a window closed is in
    that window, and in the total from the first moment on. The first inference, which pays for loading, is nobody's
    latency: the loop does not record it.

    Args:
        clock: Monotonic seconds.
        wall_clock: Unix seconds. It may jump: it only labels windows, their length is the other clock's.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Answer] = deque()
        self._clock = clock
        self._wall_clock = wall_clock
        self._window = tuple(Histogram() for _ in STAGES)
        self._closed = tuple(Histogram() for _ in STAGES)
        self._board = _BoardInWindow()
        self._num_grabbed: int | None = None
        self._started_s = clock()
        self._started_unix_s = wall_clock()

    def record(self, answer: Answer) -> None:
        """Count one answer; many are counted at once, when somebody asks or enough have come."""
        self._waiting.append(answer)
        if len(self._waiting) >= _MAX_WAITING:
            with self._lock:
                self._count()

    def _count(self) -> None:
        """Count the answers that wait; the lock is held."""
        while self._waiting:
            answer = self._waiting.popleft()
            durations = (
                to_ns(answer.capture_age_ms),
                to_ns(answer.preprocess_ms),
                to_ns(answer.inference_ms),
                to_ns(answer.post_ms),
                answer.answered_ns - answer.captured_ns,
            )
            for histogram, duration in zip(self._window, durations, strict=True):
                histogram.record(duration)

    def total(self) -> tuple[StageLatency, ...]:
        """Latency since the start, one each of `STAGES`."""
        with self._lock:
            self._count()
            window = tuple(histogram.copy() for histogram in self._window)
        for histogram, closed in zip(window, self._closed, strict=True):
            histogram.add(closed)
        return _summarize(window)

    def observe(self, system: SystemStatus) -> None:
        """Look at the board within a window, the oftener the better: throttling and temperature are joined to it."""
        self._board.observe(system)

    def is_due(self) -> bool:
        """Whether the window has lasted `WINDOW_S`."""
        return self._clock() - self._started_s >= WINDOW_S

    def close_window(self, system: SystemStatus | None = None, *, num_grabbed: int = 0) -> LatencyWindow:
        """End the window that is open and begin the next.

        Args:
            system: The board now, as `observe`; None where nothing is known of it.
            num_grabbed: Frames that the camera gave since the agent started.
        """
        if system is not None:
            self.observe(system)
        fresh = tuple(Histogram() for _ in STAGES)
        with self._lock:
            self._count()
            window, self._window = self._window, fresh
        now_s = self._clock()
        seconds = max(now_s - self._started_s, 1e-9)
        for total, histogram in zip(self._closed, window, strict=True):
            total.add(histogram)
        closed = LatencyWindow(
            started_unix_s=self._started_unix_s,
            seconds=seconds,
            fps_in=max(0, num_grabbed - (self._num_grabbed or 0)) / seconds,
            fps_out=window[0].n / seconds,
            stages=_summarize(window),
            was_slowed=self._board.was_slowed,
            temperature_c=self._board.temperature_c,
        )
        self._board = self._board.successor()
        self._num_grabbed = num_grabbed
        self._started_s = now_s
        self._started_unix_s = self._wall_clock()
        return closed


class _BoardInWindow:
    """What was seen of the board during a window: whether it was ever slowed down, and how hot it got.

    A board is looked at once a second, but remembers itself what has happened since it booted: a name that is new
    among those happened between two looks.
    """

    def __init__(self, known: frozenset[str] | None = None) -> None:
        self.was_slowed: bool | None = None
        self.temperature_c: float | None = None
        self._known = known

    def observe(self, system: SystemStatus) -> None:
        if system.temperature_c is not None:
            self.temperature_c = max(system.temperature_c, self.temperature_c or system.temperature_c)
        if system.throttle is None:
            return
        occurred = frozenset(system.throttle.has_occurred)
        is_new = self._known is not None and not occurred <= self._known
        self.was_slowed = bool(self.was_slowed) or system.throttle.is_slowed or is_new
        self._known = occurred

    def successor(self) -> _BoardInWindow:
        return _BoardInWindow(self._known)


def _summarize(histograms: tuple[Histogram, ...]) -> tuple[StageLatency, ...]:
    return tuple(_stage(stage, histogram) for stage, histogram in zip(STAGES, histograms, strict=True))


def _stage(stage: StageName, histogram: Histogram) -> StageLatency:
    return StageLatency(
        stage=stage,
        n=histogram.n,
        mean_ms=histogram.mean_ns / 1e6,
        max_ms=histogram.max_ns / 1e6,
        p50_ms=_ms(histogram.median_ns()),
        p90_ms=_ms(histogram.percentile_bound_ns(0.90)),
        p99_ms=_ms(histogram.percentile_bound_ns(0.99)),
    )


def _ms(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e6
