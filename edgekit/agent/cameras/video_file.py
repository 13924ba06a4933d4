"""A video file: once, or again and again, at its own pace or as fast as its frames are taken."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from edgekit.agent.camera import (
    MAX_PIXELS,
    CameraFacts,
    CameraKind,
    CameraLostError,
    CameraRequest,
    Grab,
    Room,
    Shot,
    copy_into,
)
from edgekit.agent.capture.pace import Pace
from edgekit.core.errors import DataError

_DEFAULT_FPS = 25.0


class _VideoFile:
    """The capture time of a frame is when it was due, not when it was read."""

    def __init__(self, request: CameraRequest) -> None:
        self._request = request
        self._path = Path(request.source)
        _check(request)
        self._capture = self._open()
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        fps = request.fps or (fps if 0 < fps < 1000 else _DEFAULT_FPS)
        self.facts = CameraFacts(
            width=round(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            height=round(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            fps=fps,
            on_demand=not request.paced,
        )
        if self.facts.width * self.facts.height > MAX_PIXELS:
            raise DataError(
                f"video {self._path} is {self.facts.width}x{self.facts.height}, at most {MAX_PIXELS} pixels"
            )
        self._pace = Pace(fps if request.paced else None)
        self._num_frames = 0

    def grab(self) -> Grab | None:
        if not self._capture.grab():
            if not self._request.loop:
                return None
            if not self._num_frames:
                raise CameraLostError(f"video {self._path} holds no frame that can be read")
            self._capture.release()
            self._capture = self._open()
            self._num_frames = 0
            if not self._capture.grab():
                raise CameraLostError(f"video {self._path} cannot be read any more")
        self._num_frames += 1
        return Grab(captured_ns=self._pace.wait(), time_source="arrival")

    def retrieve(self, room: Room) -> Shot:
        is_good, picture = self._capture.retrieve()
        if not is_good:
            raise DataError(f"video {self._path}: frame {self._num_frames} cannot be decoded")
        return Shot(picture=copy_into(room, cast("npt.NDArray[np.uint8]", picture)), color_order="bgr")

    def close(self) -> None:
        self._capture.release()

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            capture.release()
            raise CameraLostError(f"{self._path} is no video that OpenCV can read")
        return capture


def _check(request: CameraRequest) -> None:
    if not Path(request.source).is_file():
        raise DataError(f"no video file at {request.source}")


def _find_watched(request: CameraRequest) -> Path | None:
    return Path(request.source)


CAMERA = CameraKind(
    title="a video file, once or in a loop",
    example="clip.mp4",
    open=_VideoFile,
    check=_check,
    watched_path=_find_watched,
    can_freeze=False,
)
