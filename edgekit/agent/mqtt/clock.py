"""Time of records: the wall clock may jump by years, the time since boot never does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

import msgspec

_BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A point in time, as both clocks tell it.

    Args:
        unix_s: Wall clock; wrong on a board without a battery until the network has set it.
        boot_s: Seconds since the machine started, suspended time included.
        boot_id: Which start that was; two moments of different starts cannot be compared by `boot_s`.
    """

    unix_s: float
    boot_s: float
    boot_id: str


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> Moment:
        """This moment."""
        ...


class SystemClock:
    """The clocks of the machine."""

    def __init__(self) -> None:
        self._boot_id = _read_boot_id()

    def now(self) -> Moment:
        """This moment."""
        boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        return Moment(unix_s=time.time(), boot_s=boot_s, boot_id=self._boot_id)


def _read_boot_id() -> str:
    """First 8 hex digits of the kernel's number for this start; "" where it tells none: then ages are unknown."""
    try:
        return _BOOT_ID_PATH.read_text(encoding="ascii").strip()[:8]
    except (OSError, UnicodeDecodeError):
        return ""


def age_s(made: Moment, now: Moment) -> float | None:
    """Seconds between two moments; None when the machine was started in between."""
    if not made.boot_id or made.boot_id != now.boot_id:
        return None
    return now.boot_s - made.boot_s


def best_unix_s(made: Moment, now: Moment) -> float:
    """When it was, as well as that can be told now.

    Within one start of the machine the wall clock of *now* counts, less the age: a board without a battery makes its
    first records in 1970 and is told the time later. Across a start only the wall clock of then is left.

    >>> then = Moment(unix_s=0.0, boot_s=5.0, boot_id="a")
    >>> best_unix_s(then, Moment(unix_s=1_800_000_000.0, boot_s=65.0, boot_id="a"))
    1799999940.0
    >>> best_unix_s(then, Moment(unix_s=1_800_000_000.0, boot_s=65.0, boot_id="b"))
    0.0
    """
    age = age_s(made, now)
    return made.unix_s if age is None else now.unix_s - age
