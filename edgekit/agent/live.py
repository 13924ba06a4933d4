"""The newest answer and the newest snapshot, for everybody who wants to look: nobody waits, nobody queues.

The inference loop puts; terminal, HTTP and MQTT look whenever they like, at their own pace. A reader that is slow
sees fewer answers, and costs the loop nothing.
"""

from __future__ import annotations

import threading
import time

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.device_status import DeviceStatus
from edgekit.core.frame import Answer, ColorOrder, Frame

_WANTED_NS = 2_000_000_000
"""How long one look at the picture makes the loop keep pictures."""


class Shot(msgspec.Struct, frozen=True, kw_only=True):
    """A picture that outlives its frame.

    Args:
        jpeg: As the camera coded it; None when it did not send JPEG.
        picture: uint8 [height, width, channels], a copy; None when there is `jpeg`.
        color_order: Of `picture`.
        answer: What was said about it.
    """

    jpeg: bytes | None
    picture: npt.NDArray[np.uint8] | None
    color_order: ColorOrder
    answer: Answer


class Live:
    """One slot each for the newest answer, picture and snapshot. Any thread may call anything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answer: Answer | None = None
        self._shot: Shot | None = None
        self._status: DeviceStatus | None = None
        self._wanted_until_ns = 0

    def put(self, frame: Frame, answer: Answer) -> None:
        """Replace the newest answer; its picture is kept (copied, when it is no JPEG) only while somebody looks."""
        shot = None  # an old picture is not kept: the next viewer must not take it for new
        if time.monotonic_ns() < self._wanted_until_ns:
            picture = None if frame.jpeg is not None else np.array(frame.picture)
            jpeg = None if frame.jpeg is None else bytes(frame.jpeg)
            shot = Shot(jpeg=jpeg, picture=picture, color_order=frame.color_order, answer=answer)
        with self._lock:
            self._answer = answer
            self._shot = shot

    def put_status(self, status: DeviceStatus) -> None:
        """Replace the newest snapshot."""
        with self._lock:
            self._status = status

    def answer(self) -> Answer | None:
        """The newest answer; None before the first."""
        with self._lock:
            return self._answer

    def shot(self) -> Shot | None:
        """The newest picture, and ask for more of them: None until the loop has made the first one after that."""
        self._wanted_until_ns = time.monotonic_ns() + _WANTED_NS
        with self._lock:
            return self._shot

    def status(self) -> DeviceStatus | None:
        """The newest snapshot; None before the first."""
        with self._lock:
            return self._status
