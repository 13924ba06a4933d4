"""Snapshots of an agent to test with: a healthy one, and changes of it."""

from __future__ import annotations

from typing import Any

import msgspec

from edgekit.core.device_status import (
    STAGES,
    AnswerStatus,
    CameraStatus,
    DeviceStatus,
    LatencyWindow,
    ModelStatus,
    MqttStatus,
    StageLatency,
    StageName,
    SystemStatus,
    ThrottleStatus,
)


def stage_latency(stage: StageName, n: int = 1000, p50_ms: float = 10.0) -> StageLatency:
    """Latency of one stage; percentiles are there when n allows them."""
    return StageLatency(
        stage=stage,
        n=n,
        mean_ms=p50_ms * 1.04,
        max_ms=p50_ms * 2.3,
        p50_ms=p50_ms if n else None,
        p90_ms=p50_ms * 1.3 if n >= 64 else None,
        p99_ms=p50_ms * 1.9 if n >= 662 else None,
    )


MODEL = ModelStatus(
    name="mobilenet_v2_w0.5",
    scheme="static_wi8_ai8",
    sha256="ab" * 32,
    release=7,
    packed_bytes=661_220,
    file_bytes=731_904,
    resident_mib=6.4,
    load_ms=48.2,
    first_inference_ms=61.9,
    num_golden=8,
    runtime="litert 2.3.0",
    num_threads=2,
    num_classes=10,
)


def healthy_status(**changes: Any) -> DeviceStatus:
    """An agent that serves, with the given fields changed."""
    stages = tuple(stage_latency(stage, n=300, p50_ms=2.0 + place) for place, stage in enumerate(STAGES))
    status = DeviceStatus(
        device_id="kitchen",
        time_unix_s=1_790_000_000.0,
        uptime_s=3_600.0,
        state="serving",
        detail="",
        camera=CameraStatus(
            kind="v4l2",
            source="/dev/video0",
            state="streaming",
            width=640,
            height=480,
            declared_fps=30.0,
            fps_in=29.9,
            num_grabbed=107_640,
            num_dropped=12,
            time_source="driver",
        ),
        model=MODEL,
        answer=AnswerStatus(
            label="Sneaker",
            confidence=0.981,
            top=(("Sneaker", 0.981), ("Sandal", 0.012), ("Ankle boot", 0.005)),
            age_ms=41.0,
            sequence=107_639,
        ),
        fps_out=29.8,
        num_answers=107_628,
        recent=LatencyWindow(
            started_unix_s=1_789_999_990.0,
            seconds=10.0,
            fps_in=29.9,
            fps_out=29.8,
            stages=stages,
            was_slowed=False,
            temperature_c=52.1,
        ),
        total=tuple(stage_latency(stage, n=107_628, p50_ms=2.0 + place) for place, stage in enumerate(STAGES)),
        system=SystemStatus(
            board="raspberry_pi_4b", cpu_percent=34.0, rss_mib=88.0, temperature_c=52.1, throttle=ThrottleStatus()
        ),
        drift=None,
        mqtt=MqttStatus(),
    )
    return msgspec.structs.replace(status, **changes)
