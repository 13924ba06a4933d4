"""The capture process as the agent sees it: started, listened to, killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

from edgekit.agent.capture.link import AgentLink, Bell
from edgekit.agent.capture.messages import Message, Open, receive_message, send_message

_REMEMBERED_BYTES = 2000
_PACKAGE_ROOT = Path(__file__).resolve().parents[3]

# OpenCV and FFmpeg tell on standard error, many times a second, what the state of the camera says already.
_QUIET = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8", "GST_DEBUG": "0"}

# The other cores are for inference, and a thread that does nothing still has its memory.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}

# What one picture needs, malloc is to keep for the next: given back and taken again, it costs a page fault for every
# 4 KiB, a quarter of the time that decoding takes. Only glibc knows these names. 32 MiB is the most it allows.
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(32 * 2**20)}


class CaptureProcess:
    """One child, from start to death.

    Args:
        kind: Catalogue name of the camera.
        link: The memory that it is to share.
        bell: Rung by the child when it has published a frame.
        taken: Rung by the agent when it took one.

    Raises:
        OSError: No process can be started (limits, memory).
    """

    def __init__(self, kind: str, link: AgentLink, bell: Bell, taken: Bell) -> None:
        self._said = b""
        self.channel, child_channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        inherited = (child_channel.fileno(), link.descriptor, bell.descriptor, taken.descriptor)
        command = [sys.executable, "-m", "edgekit.agent.capture.child", kind, *map(str, inherited), str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=_make_environment(),
            )
        except OSError:
            self.channel.close()
            raise
        finally:
            child_channel.close()
        self._errors = cast("IO[bytes]", self._process.stderr)
        os.set_blocking(self._errors.fileno(), False)
        self.channel.setblocking(False)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def descriptors(self) -> tuple[int, int]:
        """What becomes readable when it says something: the channel, and its standard error."""
        return self.channel.fileno(), self._errors.fileno()

    def open_camera(self, message: Open) -> None:
        """Tell it to open the camera; a child that is gone is noticed by `receive`."""
        try:
            send_message(self.channel, message)
        except OSError:
            return

    def receive(self) -> list[Message | None]:
        """All that it has said since; a None at the end when it is gone."""
        messages: list[Message | None] = []
        try:
            while not messages or messages[-1] is not None:
                messages.append(receive_message(self.channel))
        except BlockingIOError:
            return messages
        return messages

    def read_errors(self) -> bool:
        """Take in what it wrote to standard error; False when that is closed."""
        try:
            content = os.read(self._errors.fileno(), 65536)
        except BlockingIOError:
            return True
        self._said = (self._said + content)[-_REMEMBERED_BYTES:]
        return bool(content)

    def end(self, patience_s: float) -> bool:
        """Kill it and take its descriptors back; False when the kernel has not let go of it yet (call `reap` later)."""
        self._process.kill()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            gone = False
        else:
            gone = True
            self.read_errors()
        self.channel.close()
        self._errors.close()
        return gone

    def reap(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def explain_death(self) -> str:
        """How it ended, for people: its last words, or its exit status."""
        lines = self._said.decode(errors="replace").strip().splitlines()
        status = self._process.returncode
        how = "was killed" if status is None else f"ended by signal {-status}" if status < 0 else f"ended with {status}"
        return f"the capture process {how}" + (f": {lines[-1][:200]}" if lines else "")


def _make_environment() -> dict[str, str]:
    """Where the child finds this package, and what keeps its libraries quiet."""
    path = os.pathsep.join(filter(None, (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
    return {**_QUIET, **os.environ, **_ONE_THREAD, **_KEPT_MEMORY, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
