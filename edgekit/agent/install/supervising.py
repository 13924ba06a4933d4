"""A trial from outside: started, listened to, measured, and ended when it hangs, grows or takes too long."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import msgspec

import edgekit
from edgekit.agent.install.messages import (
    Alive,
    Failed,
    Killed,
    Measured,
    Message,
    Stage,
    TrialOrder,
    TrialReport,
    TrialSettings,
)
from edgekit.bundle.manifest import Manifest
from edgekit.core.errors import OutputError

_MODULE = "edgekit.agent.install.trial"
_LOOK_S = 0.05
_MAX_LINE_BYTES = 4 << 20
_MAX_WORDS = 200
_MIB = 1 << 20
_HEADROOM = 2.0
"""Times what the manifest says it needs: above that a trial is ended before the board suffers."""

_FLOOR_MIB = 512
_PRIVATE_HEADROOM_MIB = 1024
"""Beyond the resident limit: what a process may ask for and not use."""

_decoder = msgspec.json.Decoder(Message)


def run_trial(folder: Path, manifest: Manifest, work_dir: Path, settings: TrialSettings) -> TrialReport:
    """Try a staged release in a process of its own.

    Args:
        folder: Of the release.
        manifest: Of it.
        work_dir: Where the trial may write; made.
        settings: How it is tried.

    Returns:
        What is known after it. The process and all that it started are gone.

    Raises:
        OutputError: No process can be started.
    """
    limit_mib = settings.max_rss_mib or max(_FLOOR_MIB, _HEADROOM * manifest.needs.ram_mib)
    order = TrialOrder(
        bundle=str(folder),
        work_dir=str(work_dir),
        settings=settings,
        parent_pid=os.getpid(),
        max_bytes=int((limit_mib + _PRIVATE_HEADROOM_MIB) * _MIB),
    )
    try:
        work_dir.mkdir(exist_ok=True)
        reading, writing = (
            os.fdopen(one, mode, buffering=0) for one, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
        )
        with tempfile.TemporaryFile() as words, reading, writing:
            process = _start(writing.fileno(), words)
            try:
                writing.close()
                _send(process, order)
                return _Watch(process, reading.fileno(), settings, limit_mib).run(words)
            finally:
                _end(process)
    except OSError as error:
        raise OutputError(
            f"cannot start a trial: {error.strerror or error}", hint="free some memory or disk"
        ) from error


class _Watch:
    """Watches one trial.

    Args:
        process: It.
        reading: Where it tells.
        settings: Its limits.
        limit_mib: Resident memory above which it is ended.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], reading: int, settings: TrialSettings, limit_mib: float
    ) -> None:
        self._process = process
        self._reading = reading
        self._settings = settings
        self._limit_mib = limit_mib
        self._started_s = self._heard_s = time.monotonic()
        self._buffer = b""
        self._stage: Stage = "starting"
        self._measured: Measured | None = None
        self._failed: Failed | None = None
        self._peak_mib = 0.0

    def run(self, words: IO[bytes]) -> TrialReport:
        """Watch until it is over."""
        killed = self._watch()
        if killed is not None:
            _end(self._process)
        exit_code = self._process.wait()
        return TrialReport(
            measured=self._measured,
            failed=self._failed,
            killed=killed,
            stage=self._stage,
            exit_code=exit_code,
            peak_rss_mib=self._peak_mib,
            seconds=time.monotonic() - self._started_s,
            last_words=_last_words(words),
        )

    def _watch(self) -> Killed | None:
        is_open = True
        with selectors.DefaultSelector() as selector:
            selector.register(self._reading, selectors.EVENT_READ)
            while is_open or self._process.poll() is None:
                if not is_open:
                    time.sleep(_LOOK_S)
                elif selector.select(_LOOK_S):
                    is_open = self._listen()
                    if not is_open:
                        selector.unregister(self._reading)
                self._peak_mib = max(self._peak_mib, _resident_mib(self._process.pid))
                now_s = time.monotonic()
                if self._peak_mib > self._limit_mib:
                    return "too_large"
                if now_s - self._started_s > self._settings.deadline_s:
                    return "late"
                if now_s - self._heard_s > self._settings.silence_s:
                    return "silent"
        return None

    def _listen(self) -> bool:
        """Take what it tells; False when it will tell no more, or nonsense."""
        part = os.read(self._reading, 1 << 16)
        self._buffer += part
        *lines, self._buffer = self._buffer.split(b"\n")
        try:
            for line in lines:
                self._hear(_decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        return bool(part) and len(self._buffer) <= _MAX_LINE_BYTES

    def _hear(self, message: Message) -> None:
        self._heard_s = time.monotonic()
        if isinstance(message, Alive):
            self._stage = message.stage
        elif isinstance(message, Failed):
            self._failed = message
        else:
            self._measured = message


def _start(writing: int, words: IO[bytes]) -> subprocess.Popen[bytes]:
    package_parent = str(Path(edgekit.__file__).resolve().parents[1])
    search_path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), package_parent)))
    return subprocess.Popen(
        [sys.executable, "-m", _MODULE, str(writing)],
        env={**os.environ, "PYTHONPATH": search_path},
        stdin=subprocess.PIPE,
        stdout=words,
        stderr=words,
        pass_fds=(writing,),
        start_new_session=True,
    )


def _send(process: subprocess.Popen[bytes], order: TrialOrder) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:  # it died at once: seen by its exit code
            stdin.write(msgspec.json.encode(order))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it and what it started. Idempotent."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _resident_mib(pid: int) -> float:
    """Resident memory of a process; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def _last_words(words: IO[bytes]) -> str:
    """The last line that it printed, short."""
    size = words.seek(0, os.SEEK_END)
    words.seek(max(0, size - 4096))
    lines = words.read().decode("utf-8", "replace").split("\n")
    told = [line.strip() for line in lines if line.strip()]
    return ascii(told[-1][:_MAX_WORDS])[1:-1] if told else ""
