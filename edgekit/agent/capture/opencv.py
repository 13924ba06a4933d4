"""OpenCV's VideoCapture as cameras use it: one whose every failure is an error with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from edgekit.agent.camera import MAX_PIXELS, Room, Shot, copy_into
from edgekit.core.errors import DataError


def open_capture(source: str | int, backend: int, options: Sequence[tuple[int, int]]) -> cv2.VideoCapture | None:
    """Open a capture; None when OpenCV cannot, and it does not say why."""
    try:
        capture = cv2.VideoCapture(source, backend, [number for pair in options for number in pair])
    except cv2.error:
        return None
    if capture.isOpened():
        return capture
    capture.release()
    return None


def grab_frame(capture: cv2.VideoCapture) -> bool:
    """Wait for the next frame; False when there is none, now and ever after."""
    try:
        return capture.grab()
    except cv2.error:
        return False


def retrieve_raw(capture: cv2.VideoCapture) -> npt.NDArray[np.uint8]:
    """The frame that was grabbed last, as OpenCV has it.

    Raises:
        DataError: It cannot be decoded.
    """
    try:
        is_good, picture = capture.retrieve()
    except cv2.error as error:
        raise DataError(f"OpenCV cannot decode this frame: {error.err}") from error
    pixels = cast("npt.NDArray[np.uint8] | None", picture)
    if not is_good or pixels is None or pixels.dtype != np.uint8:
        raise DataError("OpenCV cannot decode this frame")
    return pixels


def retrieve_frame(capture: cv2.VideoCapture, room: Room) -> Shot:
    """The frame that was grabbed last, in the shared memory: BGR, or gray.

    Raises:
        DataError: It cannot be decoded, or is too large.
    """
    pixels = retrieve_raw(capture)
    is_gray = pixels.ndim == 2 or pixels.shape[2] == 1
    return Shot(picture=copy_into(room, pixels), color_order="gray" if is_gray else "bgr")


def read_size(capture: cv2.VideoCapture) -> tuple[int, int]:
    """Width and height that it declares.

    Raises:
        DataError: More than MAX_PIXELS.
    """
    width = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    height = round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > MAX_PIXELS:
        raise DataError(f"pictures of {width}x{height}, at most {MAX_PIXELS} pixels are taken")
    return max(0, width), max(0, height)


def read_fps(capture: cv2.VideoCapture) -> float | None:
    """Frames per second that it declares; None when that is no rate of a camera (0, a time base, not a number)."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if 0.001 <= fps <= 1000 else None
