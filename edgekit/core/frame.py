"""A picture from a camera with its time, and the answer that was made of it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

ColorOrder: TypeAlias = Literal["rgb", "bgr", "gray"]
TimeSource: TypeAlias = Literal["driver", "arrival", "painted"]

UNKNOWN_LABEL = "unknown"
"""What an answer is called whose confidence is below the threshold."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One picture from a camera.

    Args:
        picture: uint8 [height, width, 3], or [height, width, 1] for gray. It may lie in memory that the camera's
            process writes again: whoever keeps it longer than one turn of the loop takes a copy.
        color_order: Order of its channels.
        sequence: Number of the frame among all that the camera grabbed; rises over reopenings, with gaps where frames
            were dropped.
        captured_ns: When it was captured, on CLOCK_MONOTONIC, nanoseconds.
        time_source: Whose clock `captured_ns` is: the camera driver's, of its arrival here (network cameras: the time
            on the network is not in it), or painted into the picture (tests).
        jpeg: The picture as the camera coded it, good for as long as `picture`; None when it did not send JPEG.
        full_size: (height, width) as the camera sent it, where it was decoded smaller than that; None where not.
    """

    picture: npt.NDArray[np.uint8]
    color_order: ColorOrder
    sequence: int
    captured_ns: int
    time_source: TimeSource
    jpeg: bytes | memoryview | None = None
    full_size: tuple[int, int] | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent says about one frame.

    Args:
        sequence: Of the frame.
        captured_ns: Of the frame.
        answered_ns: When the answer was there, on CLOCK_MONOTONIC.
        label: Class name after smoothing and threshold, or `UNKNOWN_LABEL`.
        index: Class index in output order; None when unknown.
        confidence: 0..1, after smoothing, of the best class (also when it is below the threshold).
        top: The k most likely (label, probability) pairs of this frame alone, best first.
        capture_age_ms: Age of the frame when the loop took it.
        preprocess_ms: Wall time of crop, resize, normalization.
        inference_ms: Wall time of the runtime.
        post_ms: Wall time of everything after it, up to this answer.
    """

    sequence: int
    captured_ns: int
    answered_ns: int
    label: str
    index: int | None
    confidence: float
    top: tuple[tuple[str, float], ...]
    capture_age_ms: float
    preprocess_ms: float
    inference_ms: float
    post_ms: float

    @property
    def end_to_end_ms(self) -> float:
        """From capture to answer."""
        return (self.answered_ns - self.captured_ns) / 1e6
