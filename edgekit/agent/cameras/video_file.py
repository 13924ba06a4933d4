"""A video file: once, or again and again, at its own pace or as fast as its frames are taken."""

from __future__ import annotations

from pathlib import Path

import cv2

from edgekit.agent.camera import CameraFacts, CameraKind, CameraLostError, CameraRequest, Grab, Room, Shot, look_at
from edgekit.agent.capture.opencv import grab_frame, open_capture, read_fps, read_size, retrieve_frame
from edgekit.agent.capture.pace import Pace
from edgekit.core.errors import DataError

_DEFAULT_FPS = 25.0


class _VideoFile:
    """The capture time of a frame is when it was due, not when it was read. The times in the file are not looked at."""

    def __init__(self, request: CameraRequest) -> None:
        _check(request)
        self._loop = request.loop
        self._path = Path(request.source)
        self._capture = self._open()
        fps = request.fps or read_fps(self._capture) or _DEFAULT_FPS
        width, height = read_size(self._capture)
        self.facts = CameraFacts(width=width, height=height, fps=fps, on_demand=not request.paced)
        self._pace = Pace(fps if request.paced else None)
        self._num_frames = 0

    def grab(self) -> Grab | None:
        is_good = grab_frame(self._capture)
        if not is_good and self._num_frames and not self._loop:
            return None
        if not is_good and self._num_frames:
            self._capture.release()
            self._capture = self._open()
            is_good = grab_frame(self._capture)
        if not is_good:
            raise CameraLostError(f"video {self._path} holds no frame that can be read")
        self._num_frames += 1
        return Grab(captured_ns=self._pace.wait(), time_source="arrival")

    def retrieve(self, room: Room) -> Shot:
        return retrieve_frame(self._capture, room)

    def close(self) -> None:
        self._capture.release()

    def _open(self) -> cv2.VideoCapture:
        capture = open_capture(str(self._path), cv2.CAP_FFMPEG, ((cv2.CAP_PROP_N_THREADS, 1),))
        if capture is None:
            raise CameraLostError(f"{self._path} is no video that OpenCV can read")
        return capture


def _check(request: CameraRequest) -> None:
    if look_at(Path(request.source)) != "file":
        raise DataError(f"no video file at {request.source}")


def _find_watched(request: CameraRequest) -> Path | None:
    return Path(request.source)


CAMERA = CameraKind(
    title="a video file, once or in a loop",
    example="clip.mp4",
    open=_VideoFile,
    check=_check,
    watched_path=_find_watched,
    is_live=False,
)
