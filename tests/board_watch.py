"""Programs that run on an emulated board, read line by line: each line is one JSON document."""

from __future__ import annotations

import json
import selectors
import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

from emulated_device.remote import Remote

Look = dict[str, Any]


class Watch:
    """A program on a board, in a `with` block: it is told to end by the end of its standard input."""

    def __init__(self, remote: Remote, command: str) -> None:
        self.looks: list[Look] = []
        self._command = command
        self._process = subprocess.Popen(
            remote.ssh(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self.stop()

    def until(self, condition: Callable[[Look], bool], deadline_s: float = 60.0) -> Look:
        """Read on until a line fulfils the condition; that line."""
        end = time.monotonic() + deadline_s
        while (left := end - time.monotonic()) > 0:
            looks = self._read(left)
            for index, look in enumerate(looks):
                self.looks.append(look)
                if condition(look):
                    self.looks += looks[index + 1 :]  # they came together with it
                    return look
        last = self.looks[-1] if self.looks else "nothing"
        raise AssertionError(f"not within {deadline_s:g} s; the last line of {self._command}: {last}")

    def stop(self) -> Look:
        """Let it end; its last line."""
        if self._process.returncode is None:
            out, errors = self._process.communicate(timeout=60)  # closes its standard input
            self.looks += [json.loads(line) for line in (self._rest + out).splitlines()]
            assert self._process.returncode == 0, errors.decode()[-2000:]
        return self.looks[-1]

    def _read(self, timeout_s: float) -> list[Look]:
        stdout = self._process.stdout
        assert stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                return []
        # What the selector knows of is in the pipe, not in a buffer of ours.
        chunk = stdout.read1(65536)  # type: ignore[union-attr]
        if not chunk:
            _, errors = self._process.communicate(timeout=60)
            raise AssertionError(f"{self._command} ended: {errors.decode()[-2000:]}")
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [json.loads(line) for line in lines]
