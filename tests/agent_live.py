"""A `Live` that moves: snapshots of every kind, and a thread that puts frames and answers as the loop does."""

from __future__ import annotations

import itertools
import math
import threading
import time
from typing import TYPE_CHECKING

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from agent_statuses import MODEL, stage_latency
from edgekit.agent.live import Live
from edgekit.core.device_status import (
    STAGES,
    AnswerStatus,
    CameraStatus,
    DeviceStatus,
    DriftStatus,
    LatencyWindow,
    MqttStatus,
    PowerRail,
    StageLatency,
    SystemStatus,
    ThrottleStatus,
)
from edgekit.core.frame import Answer, ColorOrder, Frame

if TYPE_CHECKING:
    from typing_extensions import Self

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")

CAMERA = CameraStatus(
    kind="v4l2",
    source="/dev/video0",
    state="streaming",
    width=640,
    height=480,
    declared_fps=30.0,
    fps_in=29.8,
    num_grabbed=2_795_112,
    num_dropped=1_398_001,
    num_lost=2,
    time_source="driver",
)


def stage_rows(n: int) -> tuple[StageLatency, ...]:
    """Latency of all stages, with the percentiles that n frames allow."""
    typical_ms = (4.2, 1.31, 21.7, 0.084, 27.3)
    return tuple(stage_latency(stage, n, p50_ms) for stage, p50_ms in zip(STAGES, typical_ms, strict=True))


def build_status(**changes: object) -> DeviceStatus:
    """A board that serves and has everything, with some fields replaced."""
    top = tuple(zip(CLASSES, (0.87, 0.08, 0.03, 0.015, 0.005), strict=True))
    status = DeviceStatus(
        device_id="kitchen",
        time_unix_s=1_750_000_000.0,
        uptime_s=93_784.0,
        state="serving",
        detail="",
        camera=CAMERA,
        model=MODEL,
        answer=AnswerStatus(label="T-shirt/top", confidence=0.87, top=top, age_ms=27.3, sequence=2_795_112),
        fps_out=14.9,
        num_answers=1_397_111,
        recent=LatencyWindow(
            started_unix_s=1_749_999_940.0,
            seconds=60.0,
            fps_in=29.8,
            fps_out=14.9,
            stages=stage_rows(500),
            was_slowed=False,
            temperature_c=61.2,
        ),
        total=stage_rows(1_397_111),
        system=SystemStatus(
            board="raspberry_pi_4b",
            cpu_percent=52.1,
            rss_mib=93.5,
            temperature_c=60.8,
            throttle=ThrottleStatus(),
            power_rails=(PowerRail(name="VDD_IN", volts=5.02, amperes=0.71, watts=3.56),),
        ),
        drift=DriftStatus(
            n=50_000, psi=0.041, mean_confidence=0.81, brightness=112.0, sharpness=384.0, num_samples=40,
            samples_bytes=1_830_112,
        ),
        mqtt=MqttStatus(state="connected", num_pending=0, num_delivered=9_113),
    )  # fmt: skip
    return msgspec.structs.replace(status, **changes)


def replace_camera(status: DeviceStatus, **changes: object) -> DeviceStatus:
    """The same board with some fields of its camera replaced."""
    return msgspec.structs.replace(status, camera=msgspec.structs.replace(status.camera, **changes))


def paint(turn: int, width: int = 640, height: int = 480) -> npt.NDArray[np.uint8]:
    """A picture, RGB, that differs from the one before everywhere."""
    across = np.linspace(0, 1, width)[np.newaxis, :]
    down = np.linspace(0, 1, height)[:, np.newaxis]
    phase = turn / 20
    waves = [np.sin(6 * across + phase) * np.cos(5 * down - 1.7 * phase + shift) for shift in (0.0, 1.1, 2.3)]
    picture = np.stack([128 + 100 * wave for wave in waves], axis=-1).astype(np.uint8)
    cv2.putText(
        picture, f"{turn}", (width // 20, height // 2), cv2.FONT_HERSHEY_SIMPLEX, height / 160, (255, 255, 255), 3
    )
    return picture


def make_answer(sequence: int, label: str = "T-shirt/top", **changes: object) -> Answer:
    """An answer of now."""
    now_ns = time.monotonic_ns()
    confidence = 0.8 + 0.15 * math.sin(sequence / 15)
    answer = Answer(
        sequence=sequence,
        captured_ns=now_ns - 27_300_000,
        answered_ns=now_ns,
        label=label,
        index=0,
        confidence=confidence,
        top=((label, confidence), ("Shirt", (1 - confidence) * 0.6), ("Pullover", (1 - confidence) * 0.3)),
        capture_age_ms=4.2,
        preprocess_ms=1.3,
        inference_ms=21.7,
        post_ms=0.1,
    )
    return msgspec.structs.replace(answer, **changes)


class Feeder:
    """Puts frames and answers as the loop does (unless paused), and snapshots (unless mute), from a thread.

    Args:
        live: Where to.
        fps: Frames per second.
        is_jpeg: Whether the camera codes its pictures.
        size: Width and height.
    """

    def __init__(
        self, live: Live, *, fps: float = 30.0, is_jpeg: bool = False, size: tuple[int, int] = (640, 480)
    ) -> None:
        self.live = live
        self.color_order: ColorOrder = "rgb"
        self.label = "T-shirt/top"
        self.status = build_status()
        self.num_put = 0
        self.is_paused = False
        self.is_mute = False
        self._fps = fps
        self._pictures = [paint(turn, *size) for turn in range(40)]
        codes = [cv2.imencode(".jpg", picture[:, :, ::-1])[1].tobytes() for picture in self._pictures]
        self.jpegs: list[bytes] | None = codes if is_jpeg else None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="feeder")

    def __enter__(self) -> Self:
        self.live.put_status(self.status)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _feed(self) -> None:
        due_s = time.monotonic()
        for tick in itertools.count():
            if self._stopped.is_set():
                return
            if not self.is_paused:
                self.num_put += 1
                turn = self.num_put % len(self._pictures)
                jpeg = self.jpegs[turn] if self.jpegs else None
                answer = make_answer(self.num_put, self.label)
                frame = Frame(
                    picture=self._pictures[turn],
                    color_order=self.color_order,
                    sequence=self.num_put,
                    captured_ns=answer.captured_ns,
                    time_source="arrival",
                    jpeg=jpeg,
                )
                self.live.put(frame, answer)
            if not self.is_mute and tick % max(1, round(self._fps / 2)) == 0:
                self.live.put_status(msgspec.structs.replace(self.status))
            due_s = max(due_s + 1 / self._fps, time.monotonic())
            self._stopped.wait(max(0.0, due_s - time.monotonic()))
