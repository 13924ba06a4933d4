"""What the tests of the capture share: waiting for conditions, and frames from a supervisor that is always stopped."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekit.agent.camera import Camera, CameraRequest, Shot
from edgekit.agent.capture.supervisor import CaptureSupervisor
from edgekit.core.frame import Frame

PATIENCE_S = 30.0
"""For things that take a tenth of a second: machines are shared and noisy."""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}")
        time.sleep(0.01)


@contextlib.contextmanager
def running(request: CameraRequest) -> Iterator[CaptureSupervisor]:
    supervisor = CaptureSupervisor(request)
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()


def take(supervisor: CaptureSupervisor) -> Frame:
    frame = supervisor.take(PATIENCE_S)
    assert frame is not None, supervisor.status()
    return frame


def take_until(supervisor: CaptureSupervisor, condition: Callable[[], bool], what: str) -> list[Frame]:
    """Take frames, as the loop does, until something has happened."""
    frames: list[Frame] = []
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        frame = supervisor.take(0.05)
        if frame is not None:
            frames.append(frame)
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}; {supervisor.status()}")
    return frames


def plain_room(height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    """A room that is no shared memory, to use a camera without a process."""
    return np.zeros((height, width, channels), np.uint8)


def read_one(camera: Camera) -> Shot:
    assert camera.grab() is not None
    return camera.retrieve(plain_room)


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def list_children() -> set[int]:
    """Process ids of this process's children, zombies too."""
    children: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                children.add(int(path.parent.name))
    return children


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
