"""What is worth a record: pure rules from snapshots to drafts.

One status record each interval; one at once when the answer or a state has changed. What flutters is limited: a label
must hold, and of changes only so many pass in a while, the newest state last.
"""

from __future__ import annotations

import msgspec

from edgekit.agent.mqtt.clock import Moment
from edgekit.agent.mqtt.pacing import Allowance
from edgekit.agent.mqtt.records import Draft, RecordKind
from edgekit.core.device_status import AgentState, AnswerStatus, CameraState, DeviceStatus, StageLatency


class StateReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the device is: payload of a status record, and of the state topic that Home Assistant reads.

    Args:
        time_unix_s: Wall clock of the snapshot.
        uptime_s: Since the agent started.
        state: Of the agent.
        detail: Why, for people.
        camera_state: Of the camera.
        camera_detail: Why, for people.
        label: Newest answer; None before the first, and while the camera is lost.
        confidence_percent: Of it.
        num_answers: Since the agent started.
        fps_in: Frames the camera gave per second.
        fps_out: Frames answered per second.
        num_dropped_frames: Frames that were not answered, as newer ones had come.
        latency_n: Frames in the latencies: of the last window, or of all before the first window is complete.
        latency_p50_ms: From capture to answer; None without frames.
        latency_p90_ms: None below 64 frames.
        latency_p99_ms: None below 662 frames.
        inference_p50_ms: Of the runtime alone.
        model: Name; None while it loads.
        scheme: Its quantization.
        model_bytes: Of the model file.
        packed_bytes: Of the packed file; None when it was not packed.
        cpu_percent: Of one core.
        rss_mib: Resident memory.
        temperature_c: Hottest zone; None where there is none.
        throttled: Whether the board is slowed down; None where it does not tell.
        drift: What has drifted; empty when nothing has, None when it is not watched.
    """

    time_unix_s: float
    uptime_s: float
    state: AgentState
    detail: str
    camera_state: CameraState
    camera_detail: str
    label: str | None
    confidence_percent: float | None
    num_answers: int
    fps_in: float
    fps_out: float
    num_dropped_frames: int
    latency_n: int
    latency_p50_ms: float | None
    latency_p90_ms: float | None
    latency_p99_ms: float | None
    inference_p50_ms: float | None
    model: str | None
    scheme: str | None
    model_bytes: int | None
    packed_bytes: int | None
    cpu_percent: float
    rss_mib: float
    temperature_c: float | None
    throttled: bool | None
    drift: tuple[str, ...] | None


class PredictionReport(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a prediction record: the label has changed.

    Args:
        label: Now.
        before: The label told last; None for the first.
        confidence_percent: Of the label.
        top: Best (label, probability) pairs.
        frame: Sequence number of the frame.
        num_merged: Changes since the last one told that were too many to tell.
    """

    label: str
    before: str | None
    confidence_percent: float
    top: tuple[tuple[str, float], ...]
    frame: int
    num_merged: int = 0


class EventReport(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of an event record.

    Args:
        event: "agent" or "camera" for a change of state; otherwise what the caller named it.
        before: State told last; None for the first, and for other events.
        after: State now; None for other events.
        detail: Why, for people.
        num_merged: Changes since the last one told that were too many to tell.
        more: What the caller added.
    """

    event: str
    before: str | None = None
    after: str | None = None
    detail: str = ""
    num_merged: int = 0
    more: msgspec.Raw | None = None


class _Told:
    """A value that is told when it changes, unless it changes too often."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._seen: str | None = None
        self.told: str | None = None
        self.num_merged = 0

    def changed(self, value: str, now_s: float) -> bool:
        """Whether `value` must be told now."""
        is_new = value != self._seen
        self._seen = value
        if value != self.told and self._allowance.take(now_s):
            return True
        self.num_merged += is_new
        return False

    def tell(self, value: str) -> int:
        """Note that `value` was told; how many changes it stands for besides its own."""
        merged, self.num_merged, self.told = self.num_merged, 0, value
        return merged


class Reporting:
    """From snapshots, one after the other, to drafts.

    Args:
        interval_s: Seconds between two status records.
        label_hold_s: Seconds that a new label must hold.
    """

    def __init__(self, *, interval_s: float, label_hold_s: float) -> None:
        self._interval_s = interval_s
        self._label_hold_s = label_hold_s
        self._due_s: float | None = None
        self._label = _Told(Allowance(60, 5.0))
        self._agent = _Told(Allowance(30, 30.0))
        self._camera = _Told(Allowance(30, 30.0))
        self._candidate: str | None = None
        self._candidate_since_s = 0.0

    def offer(self, status: DeviceStatus, now: Moment) -> list[Draft]:
        """What to record of this snapshot: usually nothing; the order is that of importance."""
        drafts = [*self._states(status, now), *self._prediction(status, now)]
        if self._is_due(now.boot_s):
            drafts.append(make_draft("status", make_state(status), now))
        return drafts

    def _is_due(self, now_s: float) -> bool:
        if self._due_s is not None and now_s < self._due_s:
            return False
        is_late = self._due_s is None or now_s >= self._due_s + self._interval_s
        self._due_s = (now_s if is_late or self._due_s is None else self._due_s) + self._interval_s
        return True

    def _states(self, status: DeviceStatus, now: Moment) -> list[Draft]:
        drafts: list[Draft] = []
        camera = status.camera.state
        if camera == "opening" and self._camera.told == "lost":
            camera = "lost"  # every attempt to open it again would be an event
        for name, told, value, detail in (
            ("agent", self._agent, status.state, status.detail),
            ("camera", self._camera, camera, status.camera.detail),
        ):
            if told.changed(value, now.boot_s):
                before = told.told
                report = EventReport(event=name, before=before, after=value, detail=detail, num_merged=told.tell(value))
                drafts.append(make_draft("event", report, now))
        return drafts

    def _prediction(self, status: DeviceStatus, now: Moment) -> list[Draft]:
        answer = status.answer
        if answer is None or not self._holds(answer, now.boot_s) or not self._label.changed(answer.label, now.boot_s):
            return []
        before = self._label.told
        report = PredictionReport(
            label=answer.label,
            before=before,
            confidence_percent=round(100 * answer.confidence, 2),
            top=answer.top,
            frame=answer.sequence,
            num_merged=self._label.tell(answer.label),
        )
        return [make_draft("prediction", report, now)]

    def _holds(self, answer: AnswerStatus, now_s: float) -> bool:
        if answer.label != self._candidate:
            self._candidate, self._candidate_since_s = answer.label, now_s
        return now_s - self._candidate_since_s >= self._label_hold_s


def make_draft(kind: RecordKind, report: msgspec.Struct, now: Moment) -> Draft:
    """A draft of a report."""
    return Draft(kind=kind, made=now, payload=msgspec.json.encode(report))


def make_state(status: DeviceStatus) -> StateReport:
    """The snapshot, in the words of the state topic."""
    model, answer, system = status.model, status.answer, status.system
    stages = {stage.stage: stage for stage in (status.total if status.recent is None else status.recent.stages)}
    whole, inference = stages.get("end_to_end"), stages.get("inference")
    return StateReport(
        time_unix_s=round(status.time_unix_s, 3),
        uptime_s=round(status.uptime_s, 1),
        state=status.state,
        detail=status.detail,
        camera_state=status.camera.state,
        camera_detail=status.camera.detail,
        label=None if answer is None else answer.label,
        confidence_percent=None if answer is None else round(100 * answer.confidence, 2),
        num_answers=status.num_answers,
        fps_in=round(status.camera.fps_in, 2),
        fps_out=round(status.fps_out, 2),
        num_dropped_frames=status.camera.num_dropped,
        latency_n=0 if whole is None else whole.n,
        latency_p50_ms=_rounded(whole, "p50_ms"),
        latency_p90_ms=_rounded(whole, "p90_ms"),
        latency_p99_ms=_rounded(whole, "p99_ms"),
        inference_p50_ms=_rounded(inference, "p50_ms"),
        model=None if model is None else model.name,
        scheme=None if model is None else model.scheme,
        model_bytes=None if model is None else model.file_bytes,
        packed_bytes=None if model is None else model.packed_bytes,
        cpu_percent=round(system.cpu_percent, 1),
        rss_mib=round(system.rss_mib, 1),
        temperature_c=None if system.temperature_c is None else round(system.temperature_c, 1),
        throttled=None if system.throttle is None else system.throttle.is_slowed,
        drift=None if status.drift is None else status.drift.flags,
    )


def _rounded(stage: StageLatency | None, name: str) -> float | None:
    value: float | None = None if stage is None else getattr(stage, name)
    return None if value is None else round(value, 2)
