"""A Raspberry Pi camera on the ribbon cable, through libcamera's picamera2. Not exercised on hardware yet."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from edgekit.agent.camera import (
    CameraFacts,
    CameraKind,
    CameraLostError,
    CameraRequest,
    Grab,
    Room,
    Shot,
    copy_into,
)
from edgekit.core.errors import MissingDependencyError, UsageError

_DEFAULT_SIZE = (640, 480)
_DEFAULT_FPS = 30.0
_HINT = "sudo apt install python3-picamera2, and an environment made with --system-site-packages"


class _Request(Protocol):
    """One frame of picamera2, which belongs to the camera again after `release`."""

    def get_metadata(self) -> dict[str, Any]: ...

    def make_array(self, name: str) -> npt.NDArray[np.uint8]: ...

    def release(self) -> None: ...


class _Device(Protocol):
    """What is used of picamera2.Picamera2."""

    def create_video_configuration(self, **parts: object) -> dict[str, Any]: ...

    def configure(self, configuration: dict[str, Any]) -> None: ...

    def camera_configuration(self) -> dict[str, Any]: ...

    def start(self) -> None: ...

    def capture_request(self) -> _Request: ...

    def close(self) -> None: ...


class _PiCamera:
    """Holds one frame of the camera at a time; it is copied only when it is asked for.

    The capture time is the sensor's: of the first row's exposure, on CLOCK_BOOTTIME.
    """

    def __init__(self, request: CameraRequest) -> None:
        index = int(request.source or 0)
        size = (request.width or _DEFAULT_SIZE[0], request.height or _DEFAULT_SIZE[1])
        fps = request.fps or _DEFAULT_FPS
        period_us = round(1e6 / fps)
        self._held: _Request | None = None
        self._camera: _Device | None = None
        make = _import_picamera2()
        try:
            self._camera = camera = make(index)
            configuration = camera.create_video_configuration(
                main={"size": size, "format": "RGB888"},  # libcamera's name for the bytes B, G, R
                controls={"FrameDurationLimits": (period_us, period_us)},
                buffer_count=4,
            )
            camera.configure(configuration)
            camera.start()
            width, height = camera.camera_configuration()["main"]["size"]
        except (RuntimeError, IndexError, OSError, ValueError) as error:
            self.close()
            raise CameraLostError(f"no Raspberry Pi camera {index}, or it is busy: {error}") from error
        self.facts = CameraFacts(width=width, height=height, fps=fps)

    def grab(self) -> Grab:
        self._let_go()
        if self._camera is None:
            raise CameraLostError("the Raspberry Pi camera is closed")
        try:
            held = self._camera.capture_request()
            stamp_ns = held.get_metadata().get("SensorTimestamp")
        except (RuntimeError, OSError, TimeoutError) as error:
            raise CameraLostError(f"the Raspberry Pi camera gives no pictures any more: {error}") from error
        self._held = held
        now_ns = time.monotonic_ns()
        if not isinstance(stamp_ns, int):
            return Grab(captured_ns=now_ns, time_source="arrival")
        asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - now_ns
        return Grab(captured_ns=stamp_ns - asleep_ns, time_source="driver")

    def retrieve(self, room: Room) -> Shot:
        if self._held is None:
            raise CameraLostError("no frame was grabbed")
        return Shot(picture=copy_into(room, self._held.make_array("main")[:, :, :3]), color_order="bgr")

    def close(self) -> None:
        self._let_go()
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.release()


def _import_picamera2() -> Callable[[int], _Device]:
    try:
        return cast("Callable[[int], _Device]", importlib.import_module("picamera2").Picamera2)
    except ImportError as error:
        raise MissingDependencyError(f"picamera2 cannot be imported: {error}", hint=_HINT) from error


def _check(request: CameraRequest) -> None:
    if request.source and not request.source.isdecimal():
        raise UsageError(f"no Raspberry Pi camera {request.source!r}", hint="give its index: picamera2:0")
    if importlib.util.find_spec("picamera2") is None:
        raise MissingDependencyError("picamera2 is not installed", hint=_HINT)


CAMERA = CameraKind(
    title="a Raspberry Pi camera on the ribbon cable (not exercised on hardware yet)",
    example="picamera2:0",
    open=_PiCamera,
    check=_check,
)
