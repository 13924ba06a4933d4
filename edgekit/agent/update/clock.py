"""Time for updates: what day it is, how long something takes, and waiting. Tests have clocks of their own."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def unix_s(self) -> float:
        """Wall clock, seconds since 1970; wrong on a board without a battery until the network has set it."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since some moment; never jumps."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The clocks of the machine."""

    def unix_s(self) -> float:
        """Wall clock."""
        return time.time()

    def monotonic_s(self) -> float:
        """Time since boot, or the like."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
