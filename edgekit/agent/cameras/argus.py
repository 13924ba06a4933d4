"""A camera on a Jetson's CSI connector, through NVIDIA's Argus and GStreamer. Not exercised on hardware yet."""

from __future__ import annotations

import re
import time

import cv2

from edgekit.agent.camera import CameraFacts, CameraKind, CameraLostError, CameraRequest, Grab, Room, Shot
from edgekit.agent.capture.opencv import grab_frame, open_capture, retrieve_frame
from edgekit.core.errors import MissingDependencyError, UsageError

_DEFAULT_SIZE = (1280, 720)
_DEFAULT_FPS = 30.0


class _Argus:
    """The image processor scales and converts; the sink keeps the newest frame only."""

    def __init__(self, request: CameraRequest) -> None:
        _require_gstreamer()
        capture = open_capture(make_pipeline(request), cv2.CAP_GSTREAMER, ())
        if capture is None:
            raise CameraLostError(
                f"no CSI camera {request.source or 0}, or it is busy",
                hint="sudo systemctl restart nvargus-daemon frees a camera that a program did not give back",
            )
        self._capture = capture
        width, height = _find_size(request)
        self.facts = CameraFacts(width=width, height=height, fps=request.fps or _DEFAULT_FPS)

    def grab(self) -> Grab:
        if not grab_frame(self._capture):
            raise CameraLostError("the CSI camera gives no pictures any more")
        return Grab(captured_ns=time.monotonic_ns(), time_source="arrival")

    def retrieve(self, room: Room) -> Shot:
        return retrieve_frame(self._capture, room)

    def close(self) -> None:
        self._capture.release()


def make_pipeline(request: CameraRequest) -> str:
    """The GStreamer pipeline, from the sensor to OpenCV.

    >>> make_pipeline(CameraRequest(kind="argus", source="1", width=640, height=480, fps=30)).split(" ! ")[0]
    'nvarguscamerasrc sensor-id=1'
    """
    width, height = _find_size(request)
    rate = f"{round(1000 * (request.fps or _DEFAULT_FPS))}/1000"
    return " ! ".join(
        (
            f"nvarguscamerasrc sensor-id={int(request.source or 0)}",
            f"video/x-raw(memory:NVMM),framerate={rate}",
            "nvvidconv",
            f"video/x-raw,width={width},height={height},format=BGRx",
            "videoconvert",
            "video/x-raw,format=BGR",
            "appsink drop=true max-buffers=1 sync=false",
        )
    )


def _find_size(request: CameraRequest) -> tuple[int, int]:
    return request.width or _DEFAULT_SIZE[0], request.height or _DEFAULT_SIZE[1]


def _require_gstreamer() -> None:
    if re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is None:
        raise MissingDependencyError(
            "this OpenCV has no GStreamer, which a Jetson's CSI camera needs",
            hint="uninstall opencv-python-headless, and use the system's OpenCV in an environment made with"
            " --system-site-packages",
        )


def _check(request: CameraRequest) -> None:
    if request.source and not request.source.isdecimal():
        raise UsageError(f"no CSI camera {request.source!r}", hint="give its index: argus:0")
    _require_gstreamer()


CAMERA = CameraKind(
    title="a camera on a Jetson's CSI connector (not exercised on hardware yet)",
    example="argus:0",
    open=_Argus,
    check=_check,
)
