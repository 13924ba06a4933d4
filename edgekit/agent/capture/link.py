"""The memory that the agent and its capture process share: three places for a picture, and a page of numbers.

The newest picture wins, without a lock and without a copy: the child writes to a place that is neither the newest
published one nor the one that the agent holds. The agent says which one it holds *before* it looks again whether that
is still the newest, and the child says which is the newest *before* it looks which one is held, with a memory barrier
between on both sides. So either the agent sees that a newer one has come, and takes that, or the child sees that the
place is held. (This is how a hazard pointer works: Michael, IEEE TPDS 15(6), 2004.)

The file behind it is as large as the largest pictures would need; only pages that were written take memory.
"""

from __future__ import annotations

import mmap
import os
import select
import struct
import threading

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.agent.camera import MAX_JPEG_BYTES, MAX_PIXELS, CameraLostError, Shot
from edgekit.core.errors import DataError
from edgekit.core.frame import ColorOrder, Frame, TimeSource

_NUM_PLACES = 3
_PAGE = 4096
_PIXEL_BYTES = 3 * MAX_PIXELS
_PLACE_BYTES = -(-(_PIXEL_BYTES + MAX_JPEG_BYTES) // _PAGE) * _PAGE
_TOTAL_BYTES = _PAGE + _NUM_PLACES * _PLACE_BYTES

# Numbers of the page, int64 each. The agent writes the first three, the child the others.
_HELD, _WANT_NS, _TAKEN = 0, 1, 2
_GRABBED, _BUSY_SINCE_NS, _PUBLISHED, _SAME, _DAMAGED = 8, 9, 10, 11, 12
_HEADERS, _HEADER_WORDS = 64, 16
_HEADER = struct.Struct("=10q")
"""Of one picture: its number, time, whose clock, height, width, channels, their order, bytes of JPEG, full size."""

_ORDERS: tuple[ColorOrder, ...] = ("rgb", "bgr", "gray")
_SOURCES: tuple[TimeSource, ...] = ("driver", "arrival", "painted")

NEVER_NS = 1 << 62
"""As a time to want a frame at: nobody wants one."""


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """What the child counts.

    Args:
        num_grabbed: Frames that the camera gave, over all openings.
        busy_since_ns: When the read began that is under way; 0 when none is.
        published: Number of the newest decoded frame; -1 for none.
        num_same: How many frames in a row, up to the newest, looked the same.
        num_damaged: Frames that could not be decoded, of this child.
    """

    num_grabbed: int = 0
    busy_since_ns: int = 0
    published: int = -1
    num_same: int = 0
    num_damaged: int = 0


class Bell:
    """Wakes the other process (eventfd). Rings that nobody heard are one ring."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if descriptor is None else descriptor
        self._poll = select.poll()
        self._poll.register(self.descriptor, select.POLLIN)

    def ring(self) -> None:
        """Wake whoever waits, or will wait."""
        os.eventfd_write(self.descriptor, 1)

    def wait(self, timeout_s: float) -> bool:
        """Wait for a ring and clear it; False when none came."""
        if not self._poll.poll(max(0.0, timeout_s) * 1000):
            return False
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:  # somebody else has cleared it
            return False
        return True

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)


class _Fence:
    """A full memory barrier. Python has none, but giving a lock back and taking it again is one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def __call__(self) -> None:
        self._lock.release()
        self._lock.acquire()


class _Link:
    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, _TOTAL_BYTES)
        self._bytes = memoryview(self._map)
        self._words = self._bytes[:_PAGE].cast("q")
        self._fence = _Fence()


class AgentLink(_Link):
    """The agent's side. Pictures that were taken stay readable after it is dropped.

    Args:
        num_grabbed: Frames of earlier children, which the numbers of this one's go on from.

    Raises:
        OSError: The system has no place for it.
    """

    def __init__(self, num_grabbed: int = 0) -> None:
        self.descriptor = os.memfd_create("edgekit-frames", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.descriptor, _TOTAL_BYTES)
            super().__init__(self.descriptor)
        except OSError:  # no room for it among the addresses (ulimit -v): tried again, for ever
            self.close_descriptor()
            raise
        self._last_taken = num_grabbed - 1
        self._words[_HELD] = -1
        self._words[_WANT_NS] = NEVER_NS
        self._words[_TAKEN] = num_grabbed - 1
        self._words[_GRABBED] = num_grabbed
        self._words[_PUBLISHED] = -1

    def close_descriptor(self) -> None:
        """Close the descriptor that the child has inherited by now; the mapping stays."""
        os.close(self.descriptor)

    def want(self, at_ns: int) -> None:
        """Say when the next frame will be taken, on CLOCK_MONOTONIC."""
        self._words[_WANT_NS] = at_ns

    def take(self) -> Frame | None:
        """The newest frame, if it is newer than the one taken last; the one before may be written again from now on."""
        words = self._words
        while True:
            published = words[_PUBLISHED]
            sequence, place = divmod(published, _NUM_PLACES)
            if published < 0 or sequence <= self._last_taken:
                return None
            words[_HELD] = place
            self._fence()
            if words[_PUBLISHED] == published:
                break
        frame = self._read(place)
        self._last_taken = sequence
        words[_TAKEN] = sequence
        return frame

    def counters(self) -> Counters:
        """What the child has counted so far."""
        words = self._words
        published = words[_PUBLISHED]
        return Counters(
            num_grabbed=words[_GRABBED],
            busy_since_ns=words[_BUSY_SINCE_NS],
            published=published // _NUM_PLACES if published >= 0 else -1,
            num_same=words[_SAME],
            num_damaged=words[_DAMAGED],
        )

    def _read(self, place: int) -> Frame:
        numbers: tuple[int, ...] = _HEADER.unpack_from(self._map, _header_offset(place))
        sequence, captured_ns, source, height, width, channels, order, jpeg_bytes, full_height, full_width = numbers
        pixels = _PAGE + place * _PLACE_BYTES
        picture = np.ndarray((height, width, channels), np.uint8, self._map, pixels)
        picture.flags.writeable = False
        coded = pixels + _PIXEL_BYTES
        return Frame(
            picture=picture,
            color_order=_ORDERS[order],
            sequence=sequence,
            captured_ns=captured_ns,
            time_source=_SOURCES[source],
            jpeg=self._bytes[coded : coded + jpeg_bytes].toreadonly() if jpeg_bytes else None,
            full_size=(full_height, full_width) if full_height else None,
        )


class SpentLink:
    """What is left of an `AgentLink` whose capture is over: its numbers, and no memory.

    Args:
        counters: What the child had counted.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def want(self, at_ns: int) -> None:
        """Nobody listens."""

    def take(self) -> Frame | None:
        """There are no frames any more."""
        return None

    def counters(self) -> Counters:
        """What was counted."""
        return self._counters


class ChildLink(_Link):
    """The capture process's side.

    Args:
        descriptor: Of the memory, inherited.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._place = 0
        self._offered: npt.NDArray[np.uint8] | None = None

    @property
    def want_ns(self) -> int:
        """When the agent will take its next frame."""
        return self._words[_WANT_NS]

    @property
    def is_taken(self) -> bool:
        """Whether the newest published frame, if any, was taken."""
        published = self._words[_PUBLISHED]
        return published < 0 or published // _NUM_PLACES <= self._words[_TAKEN]

    def set_busy(self, since_ns: int) -> None:
        """Say that a read begins; 0: that none is under way."""
        self._words[_BUSY_SINCE_NS] = since_ns

    def count_grab(self) -> int:
        """Count a frame; its sequence number."""
        sequence = self._words[_GRABBED]
        self._words[_GRABBED] = sequence + 1
        return sequence

    def count_damaged(self) -> None:
        """Count a frame that could not be decoded."""
        self._words[_DAMAGED] += 1

    def set_same(self, num_same: int) -> None:
        """Say how many frames in a row looked the same."""
        self._words[_SAME] = num_same

    def room(self, height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
        """A place for the next picture, uint8 [height, width, channels].

        Raises:
            DataError: More than MAX_PIXELS.
        """
        if not 0 < height * width <= MAX_PIXELS or channels not in {1, 3}:
            raise DataError(f"picture of {width}x{height}x{channels}, at most {MAX_PIXELS} pixels of 3 channels")
        published = self._words[_PUBLISHED]
        taboo = {self._words[_HELD], published % _NUM_PLACES if published >= 0 else -1}
        self._place = next(place for place in range(_NUM_PLACES) if place not in taboo)
        pixels = _PAGE + self._place * _PLACE_BYTES
        self._offered = np.ndarray((height, width, channels), np.uint8, self._map, pixels)
        return self._offered

    def publish(self, sequence: int, captured_ns: int, source: TimeSource, shot: Shot) -> None:
        """Make the picture that was written to the last `room` the newest one.

        Raises:
            CameraLostError: Its kind did not write it there (a programming error that must not show a wrong picture).
        """
        pixels = _PAGE + self._place * _PLACE_BYTES
        if shot.picture is not self._offered:
            raise CameraLostError("the camera's picture is not in the shared memory")
        jpeg = shot.jpeg if shot.jpeg is not None and len(shot.jpeg) <= MAX_JPEG_BYTES else b""
        self._map[pixels + _PIXEL_BYTES : pixels + _PIXEL_BYTES + len(jpeg)] = jpeg
        source_code, order = _SOURCES.index(source), _ORDERS.index(shot.color_order)
        numbers = (sequence, captured_ns, source_code, *shot.picture.shape, order, len(jpeg))
        _HEADER.pack_into(self._map, _header_offset(self._place), *numbers, *(shot.full_size or (0, 0)))
        self._fence()
        self._words[_PUBLISHED] = sequence * _NUM_PLACES + self._place
        self._fence()


def _header_offset(place: int) -> int:
    """Where the numbers of a picture stand, bytes from the beginning of the memory."""
    return 8 * (_HEADERS + place * _HEADER_WORDS)
