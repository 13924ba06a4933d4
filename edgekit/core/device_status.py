"""What an agent on a board tells about itself: one snapshot a second, the same for terminal, HTTP, MQTT and files."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from edgekit.core.frame import TimeSource

STATUS_VERSION = 1

CameraState: TypeAlias = Literal["opening", "streaming", "degraded", "frozen", "lost", "ended"]
"""`degraded`: frames come at less than half of the declared rate; `ended`: a file that is over."""

AgentState: TypeAlias = Literal["starting", "serving", "waiting", "wedged", "stopping"]
"""`waiting`: the model is ready and the camera gives no frames; `wedged`: a part no longer moves."""

MqttState: TypeAlias = Literal["off", "connecting", "connected", "offline"]

OutboxState: TypeAlias = Literal["stored", "renewed", "disk_full", "read_only", "unwritable"]
"""`stored`: records are on disk; `renewed`: they are, in a new file, as the old one was damaged; otherwise they are in
memory only, and why."""

StageName: TypeAlias = Literal["capture_age", "preprocess", "inference", "post", "end_to_end"]

STAGES: tuple[StageName, ...] = ("capture_age", "preprocess", "inference", "post", "end_to_end")
"""In the order in which a frame goes through them; the last is their sum, from capture to answer."""


class CameraStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The camera.

    Args:
        kind: Catalogue name ("v4l2", "mjpeg", ...).
        source: Device, address or path; without user name and password.
        state: What it does.
        detail: Why, for people; "" when there is nothing to add.
        width: Of the pictures as the camera sends them, pixels; 0 before the first.
        height: Of the pictures.
        declared_fps: What the camera says it delivers; None when it does not say.
        fps_in: Frames grabbed per second, over the last seconds.
        num_grabbed: Frames the camera gave.
        num_dropped: Frames that were not answered: newer ones had come.
        num_lost: How often the camera was lost.
        retry_in_s: Seconds until it is opened again; None when it is open.
        time_source: Whose clock the capture times are.
    """

    kind: str
    source: str
    state: CameraState
    detail: str = ""
    width: int = 0
    height: int = 0
    declared_fps: float | None = None
    fps_in: float = 0.0
    num_grabbed: int = 0
    num_dropped: int = 0
    num_lost: int = 0
    retry_in_s: float | None = None
    time_source: TimeSource = "arrival"


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The model that serves.

    Args:
        name: Variant name from its card.
        scheme: Quantization scheme id.
        sha256: Of the model file.
        release: Release counter of the bundle; None for a run folder.
        packed_bytes: Of the `.ekz` file; None when it was not packed.
        file_bytes: Of the model file.
        resident_mib: Growth of this process's resident memory by loading and the first inference.
        load_ms: Unpacking and loading.
        first_inference_ms: The first inference, which no latency below contains.
        num_golden: Golden pictures that were answered right before it served.
        runtime: Runtime and version.
        num_threads: Of the runtime.
        num_classes: Of its answer.
    """

    name: str
    scheme: str
    sha256: str
    release: int | None
    packed_bytes: int | None
    file_bytes: int
    resident_mib: float
    load_ms: float
    first_inference_ms: float
    num_golden: int
    runtime: str
    num_threads: int
    num_classes: int


class StageLatency(msgspec.Struct, frozen=True, kw_only=True):
    """Latency of one stage, from a histogram.

    A percentile is the upper edge of its bucket, at most 0.8 % above the sample it stands for, or the exact maximum
    where that is lower.

    Args:
        stage: Which.
        n: Frames.
        mean_ms: Exact.
        max_ms: Exact.
        p50_ms: Median; None without frames.
        p90_ms: By the early-stopping rule; None below 64 frames.
        p99_ms: By the early-stopping rule; None below 662 frames.
    """

    stage: StageName
    n: int
    mean_ms: float
    max_ms: float
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None


class ThrottleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What slows the processor down (Raspberry Pi `get_throttled`, or thermal cooling states).

    Args:
        under_voltage: Now.
        frequency_capped: Now.
        throttled: Now.
        soft_temperature_limit: Now.
        has_occurred: Names of those that have occurred since boot.
    """

    under_voltage: bool = False
    frequency_capped: bool = False
    throttled: bool = False
    soft_temperature_limit: bool = False
    has_occurred: tuple[str, ...] = ()

    @property
    def is_slowed(self) -> bool:
        """Whether anything slows it down now."""
        return self.under_voltage or self.frequency_capped or self.throttled or self.soft_temperature_limit


class PowerRail(msgspec.Struct, frozen=True, kw_only=True):
    """One power rail (Jetson: INA3221): name, volts, amperes, watts."""

    name: str
    volts: float
    amperes: float
    watts: float


class SystemStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The board.

    Args:
        board: Board id.
        cpu_percent: Of one core, of the agent with its camera process, over the last second.
        rss_mib: Resident memory of both.
        temperature_c: Hottest thermal zone; None where there is none.
        throttle: None where the board does not tell.
        power_rails: Empty where there are none.
        pss_mib: Memory of both, shared pages counted once, some seconds old; None where the kernel does not tell.
    """

    board: str
    cpu_percent: float
    rss_mib: float
    temperature_c: float | None
    throttle: ThrottleStatus | None
    power_rails: tuple[PowerRail, ...] = ()
    pss_mib: float | None = None


class LatencyWindow(msgspec.Struct, frozen=True, kw_only=True):
    """Latency over a stretch of time, with what the board was doing meanwhile.

    Args:
        started_unix_s: Wall clock at its beginning.
        seconds: Its length.
        fps_in: Frames grabbed per second.
        fps_out: Frames answered per second.
        stages: One each, in the order of `STAGES`.
        was_slowed: Whether the board was throttled at any time in it; None where the board does not tell.
        temperature_c: Highest seen in it; None where there is no sensor.
    """

    started_unix_s: float
    seconds: float
    fps_in: float
    fps_out: float
    stages: tuple[StageLatency, ...]
    was_slowed: bool | None
    temperature_c: float | None


class DriftStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whether what the camera sees still looks like what the model was made for.

    Args:
        n: Answers in the running statistics.
        psi: Population stability index of the predicted classes against the bundle's baseline; None without one, or
            with too few answers.
        mean_confidence: Running mean.
        brightness: Running mean of the pictures, 0..255.
        sharpness: Running mean of the variance of the Laplacian; low means blurred.
        flags: Names of what has drifted ("classes", "confidence", "brightness", "blur"); empty when nothing has.
        num_samples: Pictures kept for a human to label.
        samples_bytes: Their size on disk.
        detail: Why no pictures can be kept (disk full, read-only), for people; "" when they can.
    """

    n: int
    psi: float | None
    mean_confidence: float
    brightness: float
    sharpness: float
    flags: tuple[str, ...] = ()
    num_samples: int = 0
    samples_bytes: int = 0
    detail: str = ""


class MqttStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The broker and the outbox.

    Args:
        state: Of the connection.
        detail: Why, for people.
        num_pending: Records that wait.
        pending_bytes: Their size on disk.
        num_delivered: Records that the broker has acknowledged since the agent started.
        num_dropped: Records that were dropped because the outbox was full.
        outbox: Where records wait.
        num_ignored: Messages to this device that were no command.
    """

    state: MqttState = "off"
    detail: str = ""
    num_pending: int = 0
    pending_bytes: int = 0
    num_delivered: int = 0
    num_dropped: int = 0
    outbox: OutboxState = "stored"
    num_ignored: int = 0


class AnswerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The newest answer, as it is told outside.

    Args:
        label: Class name, or "unknown".
        confidence: 0..1.
        top: Best (label, probability) pairs.
        age_ms: Age of the picture when it was answered.
        sequence: Of the frame.
    """

    label: str
    confidence: float
    top: tuple[tuple[str, float], ...]
    age_ms: float
    sequence: int


class DeviceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot.

    Args:
        device_id: Name of this board.
        time_unix_s: Wall clock of the snapshot, which may jump.
        uptime_s: Since the agent started, on the monotonic clock.
        state: Of the agent.
        detail: Why, for people.
        camera: The camera.
        model: The model; None while it loads.
        answer: The newest answer; None before the first, and while the camera is lost.
        fps_out: Frames answered per second, over the last seconds.
        num_answers: Since the agent started.
        recent: The last complete window; None before the first.
        total: Latency since the agent started, one each of `STAGES`.
        system: The board.
        drift: None when it is not watched.
        mqtt: The broker.
        version: Of this format.
    """

    device_id: str
    time_unix_s: float
    uptime_s: float
    state: AgentState
    detail: str
    camera: CameraStatus
    model: ModelStatus | None
    answer: AnswerStatus | None
    fps_out: float
    num_answers: int
    recent: LatencyWindow | None
    total: tuple[StageLatency, ...]
    system: SystemStatus
    drift: DriftStatus | None
    mqtt: MqttStatus
    version: int = STATUS_VERSION
