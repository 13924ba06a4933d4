"""Who moves: every part of the agent beats once per turn of its loop, and who has not for its limit is overdue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from edgekit.core.errors import UsageError

Beat: TypeAlias = Callable[[], None]


class Part(msgspec.Struct):
    """One part that beats.

    Args:
        limit_s: How long it may be silent.
        beaten_s: When it last beat, on the monotonic clock.
    """

    limit_s: float
    beaten_s: float


class Heartbeats:
    """All parts and their last beats. Any thread may call anything.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._parts: dict[str, Part] = {}

    def register(self, name: str, limit_s: float) -> Beat:
        """Watch a part from now on; a name that is known starts anew.

        Args:
            name: For people: "camera", "inference", "web".
            limit_s: How long it may go without a beat, seconds.

        Returns:
            What the part calls once per turn. It takes no lock, and costs a look at the clock.

        Raises:
            UsageError: A limit that is not positive.
        """
        if not limit_s > 0:
            raise UsageError(f"heartbeat {name!r} has limit {limit_s} s, expected more than 0")
        clock = self._clock
        part = Part(limit_s=limit_s, beaten_s=clock())
        with self._lock:
            self._parts[name] = part

        def beat() -> None:
            part.beaten_s = clock()

        return beat

    def unregister(self, name: str) -> None:
        """Watch a part no longer: it has ended as it should. A name that is not known is no error."""
        with self._lock:
            self._parts.pop(name, None)

    def overdue(self) -> tuple[str, ...]:
        """Names of the parts that have been silent for longer than they may, sorted."""
        now = self._clock()
        with self._lock:
            return tuple(sorted(name for name, part in self._parts.items() if now - part.beaten_s > part.limit_s))

    def forgive(self, stalled_s: float) -> None:
        """Give every part that much more time: the whole process stood still (stopped, swapped out), not the part."""
        with self._lock:
            for part in self._parts.values():
                part.beaten_s = min(self._clock(), part.beaten_s + stalled_s)
