"""Records as a board might have left them. The numbers are made up; what they show is not."""

from __future__ import annotations

import math
import random

import msgspec

from agent_statuses import MODEL, stage_latency
from edgekit.core.device_record import DeviceRecord
from edgekit.core.device_status import (
    STAGES,
    AnswerStatus,
    CameraStatus,
    DeviceStatus,
    DriftStatus,
    LatencyWindow,
    ModelStatus,
    MqttStatus,
    PowerRail,
    StageLatency,
    SystemStatus,
    ThrottleStatus,
)

START_UNIX_S = 1_750_000_000.0
WINDOW_S = 10.0


def model(release: int = 7) -> ModelStatus:
    return msgspec.structs.replace(MODEL, sha256=f"{release:02x}" * 32, release=release)


def stages(n: int, slow: float = 1.0) -> tuple[StageLatency, ...]:
    typical = {"capture_age": 9.0, "preprocess": 1.6, "inference": 14.2, "post": 0.3, "end_to_end": 25.4}
    return tuple(stage_latency(stage, n, typical[stage] * slow) for stage in STAGES)


def status(number: int, *, session_start: int = 0) -> DeviceStatus:
    """Window `number` of a day in which the board gets hot at noon, and the camera falls off now and then."""
    noise = random.Random(number)
    num_windows = number - session_start + 1
    heat = 56 + 22 * math.exp(-(((number - 180) / 60) ** 2)) + noise.uniform(-0.6, 0.6)
    is_slowed = heat > 74
    is_dark = 300 <= number < 312
    slow = (1.0 + 0.08 * noise.random()) * (1.9 if is_slowed else 1.0)
    fps = 0.0 if is_dark else 30.0 / max(1.0, slow * 25.4 / 33.3)
    answer = AnswerStatus(label="Coat", confidence=0.83, top=(("Coat", 0.83), ("Shirt", 0.1)), age_ms=25.0, sequence=9)
    return DeviceStatus(
        device_id="kitchen",
        time_unix_s=START_UNIX_S + (number + 1) * WINDOW_S,
        uptime_s=num_windows * WINDOW_S,
        state="waiting" if is_dark else "serving",
        detail="",
        camera=camera(number, session_start, is_dark=is_dark),
        model=model(),
        answer=answer,
        fps_out=fps,
        num_answers=280 * num_windows,
        recent=LatencyWindow(
            started_unix_s=START_UNIX_S + number * WINDOW_S,
            seconds=WINDOW_S,
            fps_in=0.0 if is_dark else 30.0,
            fps_out=fps,
            stages=stages(int(10 * fps), slow),
            was_slowed=is_slowed,
            temperature_c=heat,
        ),
        total=stages(280 * num_windows),
        system=board(number, heat, is_slowed=is_slowed),
        drift=drift(number),
        mqtt=MqttStatus(state="connected", num_delivered=12),
    )


def camera(number: int, session_start: int, *, is_dark: bool) -> CameraStatus:
    num_windows = number - session_start + 1
    return CameraStatus(
        kind="v4l2",
        source="/dev/video0",
        state="lost" if is_dark else "streaming",
        detail="no frame for 2.0 s" if is_dark else "",
        width=640,
        height=480,
        declared_fps=30.0,
        fps_in=0.0 if is_dark else 30.0,
        num_grabbed=300 * num_windows,
        num_dropped=20 * num_windows,
        num_lost=sum(lost <= number for lost in (60, 300) if lost >= session_start),
        retry_in_s=4.0 if is_dark else None,
        time_source="driver",
    )


def board(number: int, heat: float, *, is_slowed: bool) -> SystemStatus:
    occurred = ("soft_temperature_limit", "throttled") if number > 150 else ()
    return SystemStatus(
        board="raspberry_pi_4b",
        cpu_percent=61.0 + number % 5,
        rss_mib=104.0 + number % 3 / 10,
        temperature_c=heat - 0.4,
        throttle=ThrottleStatus(throttled=is_slowed, has_occurred=occurred),
        power_rails=(PowerRail(name="VDD_IN", volts=5.02, amperes=0.91, watts=4.57),),
        pss_mib=88.0,
    )


def drift(number: int) -> DriftStatus:
    has_drifted = number >= 380
    return DriftStatus(
        n=5000,
        psi=0.41 if has_drifted else 0.08,
        mean_confidence=0.86 - 0.0003 * number,
        brightness=118.0,
        sharpness=410.0,
        flags=("classes",) if has_drifted else (),
        num_samples=14,
        samples_bytes=612_000,
    )


def day(num_windows: int = 420, restart_at: int = 240) -> DeviceRecord:
    """A record with two sessions, heat, two losses, drift at the end, and two lines lost."""
    statuses = [status(number, session_start=0 if number < restart_at else restart_at) for number in range(num_windows)]
    return DeviceRecord(statuses=tuple(statuses), num_damaged=2, num_newer=0)


def bare() -> DeviceRecord:
    """The least that a record can hold: one snapshot of a board without sensors, model, camera or windows."""
    first = msgspec.structs.replace(
        status(0),
        recent=None,
        model=None,
        answer=None,
        drift=None,
        total=stages(0),
        num_answers=0,
        state="starting",
        camera=CameraStatus(kind="v4l2", source="0", state="opening"),
        system=SystemStatus(board="host_cpu", cpu_percent=0.0, rss_mib=30.0, temperature_c=None, throttle=None),
    )
    return DeviceRecord(statuses=(first,), num_damaged=0, num_newer=0)
