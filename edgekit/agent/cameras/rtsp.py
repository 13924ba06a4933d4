"""A network camera that speaks RTSP, through OpenCV's FFmpeg: over TCP, without its buffers."""

from __future__ import annotations

import os
import time
from urllib.parse import urlsplit

import cv2

from edgekit.agent.camera import CameraFacts, CameraKind, CameraLostError, CameraRequest, Grab, Room, Shot, show_source
from edgekit.agent.capture.opencv import grab_frame, open_capture, read_fps, read_size, retrieve_frame
from edgekit.agent.capture.rules import find_read_timeout_s
from edgekit.core.errors import UsageError

_OPEN_TIMEOUT_MS = 5000
# UDP loses packets, and a lost packet is a green picture; the other three keep FFmpeg from holding frames back.
_FFMPEG_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay|max_delay;0"


class _Rtsp:
    """FFmpeg decodes every frame, as later ones build on it; the conversion to BGR waits until it is asked for.

    The capture time is when the frame came out of the decoder. FFmpeg's parser holds one frame back (it looks for the
    beginning of the next), so a picture is one period older than that, and by its time on the network.
    """

    def __init__(self, request: CameraRequest) -> None:
        self._shown = show_source(request)
        os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = _FFMPEG_OPTIONS  # read at each opening
        options = (
            (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS),
            # Later than the supervisor's: on a time-out FFmpeg first gives out the frame that it holds back, as if one
            # had come, and the loss would be seen only after a second time-out.
            (cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(2000 * find_read_timeout_s(request, None))),
            (cv2.CAP_PROP_N_THREADS, 1),  # decoding in n threads holds n - 1 frames back
        )
        capture = open_capture(request.source, cv2.CAP_FFMPEG, options)
        if capture is None:
            raise CameraLostError(f"no RTSP stream at {self._shown} (address, password, or the camera is off)")
        self._capture = capture
        width, height = read_size(capture)
        self.facts = CameraFacts(width=width, height=height, fps=read_fps(capture))

    def grab(self) -> Grab:
        if not grab_frame(self._capture):
            raise CameraLostError(f"{self._shown} broke off")
        return Grab(captured_ns=time.monotonic_ns(), time_source="arrival")

    def retrieve(self, room: Room) -> Shot:
        return retrieve_frame(self._capture, room)

    def close(self) -> None:
        self._capture.release()


def _check(request: CameraRequest) -> None:
    try:
        parts = urlsplit(request.source)
        is_good = parts.scheme.lower() in {"rtsp", "rtsps"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        is_good = False
    if not is_good or any(ord(letter) <= 32 for letter in request.source):
        raise UsageError(
            f"no RTSP address: {show_source(request)!r}", hint="for example rtsp://user:password@camera:554/stream"
        )


CAMERA = CameraKind(
    title="a network camera that speaks RTSP",
    example="rtsp://camera/stream",
    open=_Rtsp,
    check=_check,
)
