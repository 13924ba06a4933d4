"""When to send, when to connect again: pure rules over a clock that the caller reads."""

from __future__ import annotations

import random

from edgekit.agent.mqtt.config import PaceConfig

_BURST_S = 0.25
"""What was not sent for so long is made up for: the rate holds when acknowledgements come late."""


class Pace:
    """How many records may go out now.

    Acknowledgements of the broker do not tell how a subscriber keeps up, and mosquitto drops silently what it cannot
    queue. So there is a rate, and a smaller number at first, while subscribers may still be connecting again.

    Args:
        config: The limits.
        connected_s: When the connection began, seconds on the caller's clock.
    """

    def __init__(self, config: PaceConfig, connected_s: float) -> None:
        self._config = config
        self._connected_s = connected_s
        self._num_sent = 0
        self._credit = self._max_credit = max(float(config.max_in_flight), _BURST_S * config.records_per_s)
        self._credited_s = connected_s

    def allowance(self, now_s: float, num_in_flight: int) -> int:
        """How many records may be sent at `now_s`."""
        config = self._config
        gained = (now_s - self._credited_s) * config.records_per_s
        self._credit = min(self._max_credit, self._credit + gained)
        self._credited_s = now_s
        allowed = min(int(self._credit), config.max_in_flight - num_in_flight)
        if now_s < self._connected_s + config.first_s:
            allowed = min(allowed, config.first_records - self._num_sent)
        return max(0, allowed)

    def sent(self, num_records: int) -> None:
        """Note that records went out."""
        self._num_sent += num_records
        self._credit -= num_records

    def wait_s(self, now_s: float) -> float:
        """Seconds until `allowance` may grow by itself."""
        config = self._config
        if self._num_sent >= config.first_records and now_s < self._connected_s + config.first_s:
            return self._connected_s + config.first_s - now_s
        return max(0.0, (1.0 - self._credit) / config.records_per_s)


class Backoff:
    """Growing pauses with jitter, for ever.

    Args:
        min_s: The first.
        max_s: Where the doubling ends.
        seed: Of the jitter; None: by the system, so that a thousand devices do not return in the same instant.
    """

    def __init__(self, min_s: float, max_s: float, seed: int | None = None) -> None:
        self._min_s = min_s
        self._max_s = max_s
        self._next_s = min_s
        self._random = random.Random(seed)  # noqa: S311 - jitter, no secret

    def pause_s(self) -> float:
        """The next pause: between half and all of its length, which doubles."""
        pause = self._next_s * self._random.uniform(0.5, 1.0)
        self._next_s = min(self._max_s, self._next_s * 2)
        return pause

    def reset(self) -> None:
        """Begin with the shortest again."""
        self._next_s = self._min_s


class Allowance:
    """A bucket: some at once, then one each period. What does not get through is counted.

    Args:
        burst: How many at once.
        period_s: Seconds for one more.
    """

    def __init__(self, burst: int, period_s: float) -> None:
        self._burst = burst
        self._period_s = period_s
        self._credit = float(burst)
        self._credited_s: float | None = None

    def take(self, now_s: float) -> bool:
        """Whether one may pass at `now_s`."""
        if self._credited_s is not None:
            self._credit = min(float(self._burst), self._credit + max(0.0, now_s - self._credited_s) / self._period_s)
        self._credited_s = now_s
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True
