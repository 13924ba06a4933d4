"""The agent's diary: one snapshot per window in its state folder, in files that never grow beyond a cap."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from edgekit.core.device_record import rotated_path
from edgekit.core.device_status import DeviceStatus, LatencyWindow


class RecorderConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is recorded.

    Args:
        max_file_bytes: Largest file; a window takes about 3 kB, so two files of 8 MiB hold 15 hours.
        num_files: Files kept, the one that is written to included.
        retry_s: Time until a disk that refused is tried again.
    """

    max_file_bytes: int = 8 * 2**20
    num_files: int = 2
    retry_s: float = 60.0


class Recorder:
    """Appends snapshots as JSON lines. One thread at a time.

    Lines reach the disk when the kernel thinks fit: a power cut costs the last seconds, and at worst tears a line,
    which readers pass over. A disk that is full or read-only is told in `detail` and tried again later.

    Args:
        folder: The agent's state folder; made when it is first needed.
        config: None for the defaults.
        clock: Monotonic seconds.
    """

    def __init__(
        self, folder: Path, config: RecorderConfig | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._config = config or RecorderConfig()
        self._clock = clock
        self._stream: BinaryIO | None = None
        self._size_bytes = 0
        self._last: LatencyWindow | None = None
        self._retry_s = 0.0
        self.num_missed = 0
        self.detail = ""

    def offer(self, status: DeviceStatus) -> bool:
        """Record a snapshot if its window is a new one; whether it was recorded."""
        if status.recent is None or status.recent == self._last:
            return False
        self._last = status.recent
        if self._clock() < self._retry_s:
            self.num_missed += 1
            return False
        line = msgspec.json.encode(status) + b"\n"
        try:
            stream = self._room_for(len(line))
            stream.write(line)
            stream.flush()
        except OSError as error:
            self.num_missed += 1
            self.detail = f"record: {error.strerror or error}"
            self._retry_s = self._clock() + self._config.retry_s
            self.close()
            return False
        self._size_bytes += len(line)
        self.detail = ""
        return True

    def close(self) -> None:
        """Close the file. A later `offer` opens it again."""
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.close()
            except OSError as error:  # what was buffered could not be written
                self.detail = f"record: {error.strerror or error}"

    def _room_for(self, num_bytes: int) -> BinaryIO:
        if self._stream is not None and self._size_bytes + num_bytes > self._config.max_file_bytes:
            self.close()
            self._rotate()
        if self._stream is None:
            self._stream = self._open()
            if self._size_bytes > 0 and self._size_bytes + num_bytes > self._config.max_file_bytes:
                self.close()
                self._rotate()
                self._stream = self._open()
        return self._stream

    def _open(self) -> BinaryIO:
        """Open for appending, on a line of its own: the last one may be torn."""
        path = rotated_path(self._folder, 0)
        self._folder.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab+")
        self._size_bytes = stream.seek(0, os.SEEK_END)
        if self._size_bytes > 0:
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
                self._size_bytes += 1
        return stream

    def _rotate(self) -> None:
        for age in reversed(range(self._config.num_files)):
            path = rotated_path(self._folder, age)
            if path.exists():
                if age + 1 < self._config.num_files:
                    path.replace(rotated_path(self._folder, age + 1))
                else:
                    path.unlink()
