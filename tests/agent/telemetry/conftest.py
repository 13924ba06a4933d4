"""Clocks that a test turns, answers, and snapshots."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit.core.device_status import (
    STAGES,
    CameraStatus,
    DeviceStatus,
    LatencyWindow,
    MqttStatus,
    StageLatency,
    SystemStatus,
    ThrottleStatus,
)
from edgekit.core.frame import Answer, Frame

MakeAnswer = Callable[..., Answer]
MakeSystem = Callable[..., SystemStatus]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wall_clock() -> Clock:
    return Clock(1_700_000_000.0)


@pytest.fixture
def make_answer() -> MakeAnswer:
    def make(
        inference_ms: float = 10.0,
        *,
        confidence: float = 0.9,
        index: int | None = 0,
        label: str | None = None,
        answered_s: float = 100.0,
        sequence: int = 1,
    ) -> Answer:
        age_ms, preprocess_ms, post_ms = 5.0, 1.0, 0.1
        total_ns = round((age_ms + preprocess_ms + inference_ms + post_ms) * 1e6)
        answered_ns = round(answered_s * 1e9)
        name = label if label is not None else "unknown" if index is None else f"class {index}"
        return Answer(
            sequence=sequence,
            captured_ns=answered_ns - total_ns,
            answered_ns=answered_ns,
            label=name,
            index=index,
            confidence=confidence,
            top=((name, confidence),),
            capture_age_ms=age_ms,
            preprocess_ms=preprocess_ms,
            inference_ms=inference_ms,
            post_ms=post_ms,
        )

    return make


@pytest.fixture
def make_system() -> MakeSystem:
    def make(
        temperature_c: float | None = None, *, throttled: bool | None = None, occurred: tuple[str, ...] = ()
    ) -> SystemStatus:
        throttle = None if throttled is None else ThrottleStatus(throttled=throttled, has_occurred=occurred)
        return SystemStatus(
            board="host_cpu", cpu_percent=1.0, rss_mib=50.0, temperature_c=temperature_c, throttle=throttle
        )

    return make


MakeFrame = Callable[..., Frame]
MakeStatus = Callable[..., DeviceStatus]


@pytest.fixture
def make_frame() -> MakeFrame:
    """A picture of noise around a shade, or one of that shade alone."""

    def make(
        shade: int = 128, *, noise: int = 60, size: tuple[int, int] = (48, 64), jpeg: bytes | None = None
    ) -> Frame:
        draw = np.random.default_rng(7)
        picture = np.clip(shade + draw.integers(-noise, noise + 1, (*size, 3)), 0, 255).astype(np.uint8)
        return Frame(picture=picture, color_order="bgr", sequence=1, captured_ns=0, time_source="arrival", jpeg=jpeg)

    return make


@pytest.fixture
def make_status(make_system: MakeSystem) -> MakeStatus:
    """A snapshot with a window of its own for every number."""

    def make(number: int = 0, *, detail: str = "") -> DeviceStatus:
        stages = tuple(
            StageLatency(stage=stage, n=300, mean_ms=5.0, max_ms=9.0, p50_ms=5.0, p90_ms=7.0, p99_ms=None)
            for stage in STAGES
        )
        window = LatencyWindow(
            started_unix_s=1.7e9 + 10 * number,
            seconds=10.0,
            fps_in=30.0,
            fps_out=30.0,
            stages=stages,
            was_slowed=False,
            temperature_c=51.0,
        )
        return DeviceStatus(
            device_id="kitchen",
            time_unix_s=1.7e9 + 10 * number + 10,
            uptime_s=10.0 * number + 10,
            state="serving",
            detail=detail,
            camera=CameraStatus(kind="synthetic", source="", state="streaming"),
            model=None,
            answer=None,
            fps_out=30.0,
            num_answers=300 * number + 300,
            recent=window,
            total=stages,
            system=make_system(51.0, throttled=False),
            drift=None,
            mqtt=MqttStatus(),
        )

    return make
