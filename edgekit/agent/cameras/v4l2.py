"""A camera that Linux knows as /dev/videoN: USB cameras, capture cards."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import cv2
import numpy as np

from edgekit.agent.camera import CameraFacts, CameraKind, CameraLostError, CameraRequest, Grab, Room, Shot
from edgekit.agent.capture.jpeg import decode_jpeg
from edgekit.agent.capture.opencv import grab_frame, open_capture, read_fps, read_size, retrieve_frame, retrieve_raw
from edgekit.agent.capture.rules import find_own_timeout_s
from edgekit.core.errors import DataError, UsageError

_MJPG = 0x47504A4D
"""The four letters MJPG, as V4L2 writes them."""


class _V4l2:
    """Asks for MJPG, which any USB bandwidth carries and which need not be decoded to be dropped, but takes anything.

    The capture time is the driver's. After an unplugging, read() of OpenCV says False for ever until it is opened anew.
    """

    def __init__(self, request: CameraRequest) -> None:
        self._request = request
        self._path = find_device(request.source)
        _probe(self._path)
        # Read once by OpenCV, before the first frame; whole seconds.
        self._select_s = max(1, int(find_own_timeout_s(request, None)))
        os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] = str(self._select_s)
        capture = open_capture(str(self._path), cv2.CAP_V4L2, ())
        if capture is None:
            raise CameraLostError(f"{self._path} is busy (another program has it), or no camera")
        self._capture = capture
        self._is_first = True
        self._is_raw_jpeg = self._negotiate()
        width, height = read_size(capture)
        self.facts = CameraFacts(width=width, height=height, fps=read_fps(capture))

    def grab(self) -> Grab:
        if not self._wait():
            raise CameraLostError(f"{self._path} gives no pictures any more (unplugged, or its driver failed)")
        driver_ns = round(1e6 * self._capture.get(cv2.CAP_PROP_POS_MSEC))
        if driver_ns > 0:
            return Grab(captured_ns=driver_ns, time_source="driver")
        return Grab(captured_ns=time.monotonic_ns(), time_source="arrival")

    def _wait(self) -> bool:
        """Wait for a frame as long as it may take. OpenCV says False after its own time, too: ask again.

        Its time is whole seconds, so the last question may end after the deadline; then the agent ends this process.
        """
        end_s = time.monotonic() + find_own_timeout_s(self._request, self.facts.fps, is_first=self._is_first)
        while True:
            began_s = time.monotonic()
            if grab_frame(self._capture):
                self._is_first = False
                return True
            ended_s = time.monotonic()
            has_failed = ended_s - began_s < self._select_s / 2
            if has_failed or ended_s >= end_s:
                return False

    def retrieve(self, room: Room) -> Shot:
        if not self._is_raw_jpeg:
            return retrieve_frame(self._capture, room)
        raw = retrieve_raw(self._capture)
        content = np.ascontiguousarray(raw).tobytes()
        if not content.startswith(b"\xff\xd8"):
            if raw.ndim == 3 and raw.shape[2] == 3:  # this OpenCV decodes whatever it is told
                return retrieve_frame(self._capture, room)
            self._is_raw_jpeg = False
            self._capture.set(cv2.CAP_PROP_CONVERT_RGB, 1)
            raise DataError(f"{self._path} sent no JPEG, though it says so")
        return decode_jpeg(content, room, self._request.min_size)

    def close(self) -> None:
        self._capture.release()

    def _negotiate(self) -> bool:
        """Set format, size and rate, in the order that drivers want them; whether JPEG comes through undecoded.

        A driver that cannot do what is asked does the nearest it can: `facts` says what that is.
        """
        request, capture = self._request, self._capture
        capture.set(cv2.CAP_PROP_FOURCC, _MJPG)
        if request.width is not None and request.height is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, request.width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, request.height)
        if request.fps is not None:
            capture.set(cv2.CAP_PROP_FPS, request.fps)
        is_mjpg = int(capture.get(cv2.CAP_PROP_FOURCC)) == _MJPG
        return is_mjpg and bool(capture.set(cv2.CAP_PROP_CONVERT_RGB, 0))


def find_device(source: str) -> Path:
    """The device of an index or a path; links (/dev/v4l/by-id/...) are followed at each opening.

    >>> find_device("1")
    PosixPath('/dev/video1')
    """
    path = Path(f"/dev/video{source or 0}") if source.isdecimal() or not source else Path(source)
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):  # links in a circle, a null character
        return path


def _probe(path: Path) -> None:
    """Say what OpenCV does not: why a device cannot be opened."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except FileNotFoundError as error:
        others = sorted(other.name for other in Path("/dev").glob("video*"))
        listing = ", ".join(others) if others else "no camera at all"
        raise CameraLostError(f"no camera at {path}; there is {listing}") from error
    except ValueError as error:  # a null character
        raise CameraLostError(f"no camera at {str(path)!r}") from error
    except OSError as error:
        if error.errno == errno.EACCES:
            raise CameraLostError(
                f"no permission to read {path}", hint="add the user to the group 'video' and log in again"
            ) from error
        raise CameraLostError(f"{path}: {error.strerror or error}") from error


def _check(request: CameraRequest) -> None:
    if request.source and not request.source.isdecimal() and not request.source.startswith("/"):
        raise UsageError(f"no camera {request.source!r}", hint="give an index (0) or a path (/dev/video0)")


def _find_watched(request: CameraRequest) -> Path | None:
    return find_device(request.source)


CAMERA = CameraKind(
    title="a USB camera or capture card, /dev/videoN",
    example="0",
    open=_V4l2,
    check=_check,
    watched_path=_find_watched,
)
