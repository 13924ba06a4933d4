"""How long a server may take: for one wait, for everything, and on the average."""

from __future__ import annotations

from edgekit.agent.update.clock import Clock
from edgekit.agent.update.config import FetchLimits
from edgekit.agent.update.outcome import update_error

_SHORTEST_S = 0.001
"""A timeout of 0 would mean not to wait at all."""


class Patience:
    """Counts down, for one connection.

    Args:
        clock: Where the time comes from.
        limits: Silence, and the slowest rate.
        until_s: On the clock's `monotonic_s`: when everything has to be there; None for no such moment.
        url: For messages.
    """

    def __init__(self, clock: Clock, limits: FetchLimits, until_s: float | None, url: str) -> None:
        self._clock = clock
        self._limits = limits
        self._until_s = until_s
        self._url = url
        self._headers_until_s: float | None = clock.monotonic_s() + limits.headers_s
        self._window_began_s = 0.0
        self._window_bytes = 0

    def next_wait_s(self) -> float:
        """Longest that the next wait for bytes may take, seconds.

        Raises:
            UpdateError: "too_slow": the time is up.
        """
        now_s = self._clock.monotonic_s()
        ends = [end for end in (self._until_s, self._headers_until_s) if end is not None]
        left_s = min([end - now_s for end in ends], default=self._limits.silence_s)
        if left_s <= 0:
            what = "headers" if self._headers_until_s is not None else "content"
            raise update_error("too_slow", f"{self._url}: the {what} did not come in time", url=self._url)
        return max(_SHORTEST_S, min(left_s, self._limits.silence_s))

    def begin_content(self) -> None:
        """The headers are there; from now on the rate counts."""
        self._headers_until_s = None
        self._window_began_s = self._clock.monotonic_s()
        self._window_bytes = 0

    def note(self, num_bytes: int) -> None:
        """Bytes came.

        Raises:
            UpdateError: "too_slow": fewer than there should have been.
        """
        self._window_bytes += num_bytes
        spent_s = self._clock.monotonic_s() - self._window_began_s
        if spent_s < self._limits.silence_s:
            return
        rate = self._window_bytes / spent_s
        if rate < self._limits.min_bytes_per_s:
            least = self._limits.min_bytes_per_s
            message = f"{self._url}: {rate:.0f} bytes/s over {spent_s:.0f} s, at least {least:g} are waited for"
            raise update_error("too_slow", message, url=self._url)
        self.begin_content()
