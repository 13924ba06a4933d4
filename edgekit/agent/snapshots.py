"""One snapshot of everything, put together from the parts that know."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from edgekit.agent.loop import FrameSource
from edgekit.agent.reporter import RateMeter
from edgekit.agent.telemetry.latency import LatencyRecorder
from edgekit.agent.telemetry.recorder import Recorder
from edgekit.agent.telemetry.system import SystemReader
from edgekit.core.device_status import (
    AgentState,
    AnswerStatus,
    CameraStatus,
    DeviceStatus,
    DriftStatus,
    LatencyWindow,
    ModelStatus,
    MqttStatus,
)
from edgekit.core.frame import Answer


class Drifting(Protocol):
    """Who watches for drift."""

    def status(self) -> DriftStatus:
        """What was found."""
        ...


class Publishing(Protocol):
    """Who talks to the broker."""

    def status(self) -> MqttStatus:
        """Connection and outbox."""
        ...


def judge_state(*, is_loaded: bool, camera: CameraStatus, overdue: tuple[str, ...], is_stopping: bool) -> AgentState:
    """What the agent as a whole does.

    >>> camera = CameraStatus(kind="v4l2", source="0", state="lost")
    >>> judge_state(is_loaded=True, camera=camera, overdue=(), is_stopping=False)
    'waiting'
    """
    if overdue:
        return "wedged"
    if is_stopping:
        return "stopping"
    if not is_loaded:
        return "starting"
    return "serving" if camera.state in ("streaming", "degraded") else "waiting"


def describe_answer(answer: Answer | None) -> AnswerStatus | None:
    """An answer as it is told outside."""
    if answer is None:
        return None
    return AnswerStatus(
        label=answer.label,
        confidence=answer.confidence,
        top=answer.top,
        age_ms=answer.end_to_end_ms,
        sequence=answer.sequence,
    )


class SnapshotMaker:
    """Makes the snapshots of one agent. Parts that are not there yet (the model loads, MQTT is off) are left out.

    One thread makes snapshots; any thread may set the parts before that or meanwhile.

    Args:
        device_id: Name of this board.
        camera: What is told of the camera until there is one.
        system: Of the board.
        overdue: Names of the parts that no longer move.
    """

    def __init__(
        self,
        device_id: str,
        camera: CameraStatus,
        system: SystemReader,
        overdue: Callable[[], tuple[str, ...]],
    ) -> None:
        self.note = ""
        self.drift: Drifting | None = None
        self.mqtt: Publishing | None = None
        self.recorder: Recorder | None = None
        self.is_stopping = False
        self._source: FrameSource | None = None
        self._model: ModelStatus | None = None
        self._device_id = device_id
        self._camera = camera
        self._latency = LatencyRecorder()
        self._system = system
        self._overdue = overdue
        self._started_s = time.monotonic()
        self._fps_out = RateMeter()
        self._recent: LatencyWindow | None = None
        self._answer: Answer | None = None
        self._num_answers = 0

    def begin(self, source: FrameSource, model: ModelStatus) -> None:
        """Learn what serves from now on. Latency and answer begin anew: one model's must not be told as another's."""
        if self._model is not None:
            self._latency = LatencyRecorder()
            self._answer = None
        self._source, self._model = source, model
        self._fps_out = RateMeter()  # the time before anything served is no part of a rate

    def offer(self, answer: Answer) -> None:
        """Take the newest answer; the inference thread calls this."""
        self._latency.record(answer)
        self._answer = answer
        self._num_answers += 1

    def collect(self) -> DeviceStatus:
        """Make one snapshot."""
        camera = self._camera if self._source is None else self._source.status()
        system = self._system.read()
        self._latency.observe(system)
        if self._latency.is_due():
            self._recent = self._latency.close_window(system, num_grabbed=camera.num_grabbed)
        overdue = self._overdue()
        return DeviceStatus(
            device_id=self._device_id,
            time_unix_s=time.time(),
            uptime_s=time.monotonic() - self._started_s,
            state=judge_state(
                is_loaded=self._model is not None, camera=camera, overdue=overdue, is_stopping=self.is_stopping
            ),
            detail=self._detail(overdue),
            camera=camera,
            model=self._model,
            answer=describe_answer(None if camera.state == "lost" else self._answer),  # what was seen once is no answer
            fps_out=self._fps_out.update(time.monotonic(), self._num_answers),
            num_answers=self._num_answers,
            recent=self._recent,
            total=self._latency.total(),
            system=system,
            drift=None if self.drift is None else self.drift.status(),
            mqtt=MqttStatus() if self.mqtt is None else self.mqtt.status(),
        )

    def _detail(self, overdue: tuple[str, ...]) -> str:
        stuck = f"no longer moving: {', '.join(overdue)}" if overdue else ""
        return "; ".join(filter(None, (stuck, self.note, self.recorder.detail if self.recorder is not None else "")))
