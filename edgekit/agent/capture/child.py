"""The capture process: `python -m edgekit.agent.capture.child KIND CHANNEL MEMORY BELL TAKEN PARENT`.

It reads one camera, and is killed when a read hangs. It imports the camera's library and nothing of the agent's, dies
with the agent, and opens the camera when told to. KIND is a catalogue name, PARENT the agent's process id, the others
are inherited descriptors: of the socket, the shared memory, the bell that wakes the agent, the bell that a taken frame
rings.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time

from edgekit.agent.camera import CAMERAS, Camera, CameraKind, CameraLostError
from edgekit.agent.capture.link import Bell, ChildLink
from edgekit.agent.capture.messages import Ended, Lost, Message, Open, Opened, Ready, receive_message, send_message
from edgekit.agent.capture.rules import Average, choose_capture_time, fingerprint, is_worth_decoding
from edgekit.core.errors import DataError, EdgekitError
from edgekit.core.frame import TimeSource

_PR_SET_PDEATHSIG = 1
_MAX_DAMAGED = 10
"""So many damaged frames in a row, and the camera is opened anew."""


def main(arguments: list[str]) -> int:
    """Serve openings until the agent goes away; the exit code."""
    kind_name = arguments[0]
    channel_fd, memory_fd, bell_fd, taken_fd, parent = map(int, arguments[1:6])
    # Ctrl-C goes to the whole group, and systemd's SIGTERM to the whole service; the agent ends this one itself
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if not _die_with(parent):
        return 0
    channel = socket.socket(fileno=channel_fd)
    link = ChildLink(memory_fd)
    os.close(memory_fd)
    kind = CAMERAS.load(kind_name)
    try:
        send_message(channel, Ready())
        while isinstance(message := receive_message(channel), Open):
            link.set_busy(0)
            send_message(channel, _serve(kind, message, channel, Reader(link, Bell(bell_fd), Bell(taken_fd))))
    except (BrokenPipeError, ConnectionError):
        pass
    return 0


def _serve(kind: CameraKind, message: Open, channel: socket.socket, reader: Reader) -> Message:
    """Open the camera and stream until it ends; how it ended."""
    camera: Camera | None = None
    try:
        camera = kind.open(message.request)
        send_message(channel, Opened(facts=camera.facts))
        reader.read_all(camera, is_live=kind.is_live)
    except EdgekitError as error:
        return Lost(detail=error.message if error.hint is None else f"{error.message} ({error.hint})")
    except (OSError, MemoryError) as error:
        return Lost(detail=f"{type(error).__name__}: {error}")
    finally:
        if camera is not None:
            camera.close()
    return Ended()


class Reader:
    """Reads one opening of a camera: grabs every frame, decodes those that will be taken, publishes them.

    Args:
        link: The shared memory.
        bell: Rung when a frame was published.
        taken: Rings when a frame was taken.
    """

    def __init__(self, link: ChildLink, bell: Bell, taken: Bell) -> None:
        self._link = link
        self._bell = bell
        self._taken = taken
        self._period = Average()
        self._decode = Average()
        self._arrived_ns = 0
        self._captured_ns = 0
        self._num_damaged = 0
        self._fingerprint = -1
        self._num_same = 0

    def read_all(self, camera: Camera, *, is_live: bool) -> None:
        """Read to the end of a file, or until the camera is lost.

        Raises:
            CameraLostError: It gives no pictures any more.
        """
        link = self._link
        link.set_same(0)
        on_demand = camera.facts.on_demand
        while True:
            while on_demand and not link.is_taken:
                self._taken.wait(1.0)
            began_ns = time.monotonic_ns()
            link.set_busy(began_ns)
            grab = camera.grab()
            if grab is None:
                link.set_busy(0)
                return
            now_ns = time.monotonic_ns()
            sequence = link.count_grab()
            if self._arrived_ns:
                self._period.add(now_ns - self._arrived_ns)
            self._arrived_ns = now_ns
            captured_ns, source = choose_capture_time(grab.captured_ns, grab.time_source, now_ns, self._captured_ns)
            self._captured_ns = captured_ns
            if on_demand or is_worth_decoding(now_ns, self._period.value, self._decode.value, link.want_ns):
                self._deliver(camera, sequence, captured_ns, source, is_live)
            if on_demand:
                link.set_busy(0)

    def _deliver(self, camera: Camera, sequence: int, captured_ns: int, source: TimeSource, is_live: bool) -> None:
        began_ns = time.monotonic_ns()
        try:
            shot = camera.retrieve(self._link.room)
        except DataError as error:
            self._link.count_damaged()
            self._num_damaged += 1
            if is_live and self._num_damaged >= _MAX_DAMAGED:
                raise CameraLostError(f"{_MAX_DAMAGED} damaged pictures in a row: {error.message}") from error
            return
        self._num_damaged = 0
        self._link.publish(sequence, captured_ns, source, shot)
        self._bell.ring()
        self._decode.add(time.monotonic_ns() - began_ns)
        if is_live:
            self._watch(fingerprint(shot.picture if shot.jpeg is None else shot.jpeg))

    def _watch(self, print_: int) -> None:
        self._num_same = self._num_same + 1 if print_ == self._fingerprint else 1
        self._fingerprint = print_
        self._link.set_same(self._num_same)


def _die_with(parent: int) -> bool:
    """Have the kernel kill this process when the agent's dies; False when it is dead already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
