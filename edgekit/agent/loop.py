"""The inference loop: newest frame in, answer out, each stage timed, and told in time when the next frame is wanted."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import msgspec

from edgekit.agent.recognition import Probabilities, Recognizer, best_classes
from edgekit.agent.smoothing import Smoother, SmoothingSettings
from edgekit.core.device_status import CameraStatus
from edgekit.core.errors import UsageError
from edgekit.core.frame import Answer, Frame

_POLL_S = 0.2
"""Longest wait for a frame before the loop looks whether it should end."""

_NUM_DURATIONS = 16


class FrameSource(Protocol):
    """Where frames come from; `edgekit.agent.capture.supervisor.CaptureSupervisor` is the real one."""

    def want(self, at_ns: int) -> None:
        """Tell when the next frame will be wanted, on CLOCK_MONOTONIC."""
        ...

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame that was not taken yet; None when none comes in time."""
        ...

    def status(self) -> CameraStatus:
        """State and counters."""
        ...


class AnswerSink(Protocol):
    """Who wants every answer. Called between two frames: it must be quick and raise nothing."""

    def offer(self, frame: Frame, answer: Answer) -> None:
        """Take one. The frame's picture is only good during the call."""
        ...


Exchange: TypeAlias = Callable[[], "Serving"]
"""Makes what serves from now on; called by the loop between two frames."""


class LoopSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the loop runs.

    Args:
        top_k: Classes listed with each answer.
        max_fps: Answers per second at most; None for as many as camera and model can do.
        max_frames: Ends after so many answers; None for never.
        smoothing: From single frames to an answer.
    """

    top_k: int = 3
    max_fps: float | None = None
    max_frames: int | None = None
    smoothing: SmoothingSettings = SmoothingSettings()

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: Says which setting, its value and its range.
        """
        if self.top_k < 1:
            raise UsageError(f"top_k is {self.top_k}, expected at least 1")
        if self.max_fps is not None and not 0 < self.max_fps <= 10_000:
            raise UsageError(f"max_fps is {self.max_fps}, expected more than 0, at most 10000")
        if self.max_frames is not None and self.max_frames < 1:
            raise UsageError(f"max_frames is {self.max_frames}, expected at least 1")
        self.smoothing.check()


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What the loop works with.

    Args:
        source: Frames.
        recognizer: The model.
        sinks: Who gets the answers.
    """

    source: FrameSource
    recognizer: Recognizer
    sinks: tuple[AnswerSink, ...]


class Pace:
    """When the next frame is wanted.

    Without a rate: as soon as the frame at hand will be done, judged by the quickest of the last frames. Waiting for a
    frame costs throughput, a frame that waits costs only its age, so the guess errs to the early side.
    With a rate: at the next tick, and ticks that were missed are not made up for.
    """

    def __init__(self, max_fps: float | None) -> None:
        self._period_ns = None if max_fps is None else round(1e9 / max_fps)
        self._due_ns = 0
        self._durations: deque[int] = deque(maxlen=_NUM_DURATIONS)

    def next_wanted(self, taken_ns: int) -> int:
        """When the frame after the one that was just taken will be wanted."""
        if self._period_ns is None:
            return taken_ns + (min(self._durations) if self._durations else 0)
        due_ns = self._due_ns + self._period_ns
        self._due_ns = due_ns if due_ns > taken_ns else taken_ns + self._period_ns
        return self._due_ns

    def finish(self, duration_ns: int) -> None:
        """Take in how long a frame took from taken to answered."""
        self._durations.append(duration_ns)

    def delay_s(self, now_ns: int) -> float:
        """Seconds to sleep before the next frame is taken; 0 without a rate."""
        return max(0, self._due_ns - now_ns) / 1e9 if self._period_ns is not None else 0.0


class InferenceLoop:
    """Takes frames, answers, and hands each answer to the sinks.

    Args:
        source: Frames.
        recognizer: The model.
        settings: Checked here. Raises UsageError.
        sinks: Called in this order with every answer.
        beat: Called in every turn, so that a watchdog sees that the loop moves.
    """

    def __init__(
        self,
        source: FrameSource,
        recognizer: Recognizer,
        settings: LoopSettings,
        sinks: Sequence[AnswerSink],
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        settings.check()
        self._source = source
        self._recognizer = recognizer
        self._settings = settings
        self._sinks = tuple(sinks)
        self._beat = beat
        self._smoother = Smoother(settings.smoothing, recognizer.labels)
        self._pace = Pace(settings.max_fps)
        self._num_lost = 0
        self._exchange: Exchange | None = None
        self.num_answers = 0

    def exchange(self, make: Exchange) -> None:
        """Change over to another model between two frames; any thread may ask for it.

        Args:
            make: Called in the loop's thread when it is time. What it raises ends the loop.
        """
        self._exchange = make

    def run(self, stop: threading.Event) -> None:
        """Answer until told to stop, the source has ended, or `max_frames` are answered.

        Raises:
            GraphError: The model failed or answered with NaN; that does not pass by itself.
        """
        while not stop.is_set():
            self._beat()
            self._change_over()
            answered = self.step()
            if self._is_done() or (not answered and self._source.status().state == "ended"):
                return
            delay = self._pace.delay_s(time.monotonic_ns())
            while delay > 0 and not stop.wait(min(delay, _POLL_S)):
                self._beat()
                delay = self._pace.delay_s(time.monotonic_ns())

    def step(self) -> bool:
        """Answer one frame; False when none came in time."""
        frame = self._source.take(_POLL_S)
        if frame is None:
            self._forget_after_loss()
            return False
        taken_ns = time.monotonic_ns()
        self._source.want(self._pace.next_wanted(taken_ns))
        answer = self.answer(frame, taken_ns)
        self._pace.finish(answer.answered_ns - taken_ns)
        self.num_answers += 1
        for sink in self._sinks:
            sink.offer(frame, answer)
        return True

    def answer(self, frame: Frame, taken_ns: int) -> Answer:
        """Make the answer for one frame that was taken at `taken_ns`. Raises as `Recognizer`'s steps."""
        batch = self._recognizer.prepare(frame)
        prepared_ns = time.monotonic_ns()
        raw = self._recognizer.infer(batch)
        inferred_ns = time.monotonic_ns()
        probabilities = self._recognizer.to_probabilities(raw)
        verdict = self._smoother.add(probabilities, frame.captured_ns)
        top = self._top(probabilities)
        answered_ns = time.monotonic_ns()
        return Answer(
            sequence=frame.sequence,
            captured_ns=frame.captured_ns,
            answered_ns=answered_ns,
            label=verdict.label,
            index=verdict.index,
            confidence=verdict.confidence,
            top=top,
            capture_age_ms=(taken_ns - frame.captured_ns) / 1e6,
            preprocess_ms=(prepared_ns - taken_ns) / 1e6,
            inference_ms=(inferred_ns - prepared_ns) / 1e6,
            post_ms=(answered_ns - inferred_ns) / 1e6,
        )

    def _top(self, probabilities: Probabilities) -> tuple[tuple[str, float], ...]:
        labels = self._recognizer.labels
        chosen = best_classes(probabilities, self._settings.top_k)
        return tuple((labels[index], float(probabilities[index])) for index in chosen)

    def _change_over(self) -> None:
        make, self._exchange = self._exchange, None
        if make is None:
            return
        serving = make()
        self._source, self._recognizer, self._sinks = serving.source, serving.recognizer, serving.sinks
        self._smoother = Smoother(self._settings.smoothing, serving.recognizer.labels)
        self._pace = Pace(self._settings.max_fps)

    def _is_done(self) -> bool:
        return self._settings.max_frames is not None and self.num_answers >= self._settings.max_frames

    def _forget_after_loss(self) -> None:
        """Begin the smoothing anew once for each time that the camera was lost."""
        num_lost = self._source.status().num_lost
        if num_lost != self._num_lost:
            self._num_lost = num_lost
            self._smoother.reset()
