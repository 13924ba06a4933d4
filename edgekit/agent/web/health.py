"""Whether the agent moves and whether it serves: pure rules, for whoever restarts it or sends work to it.

Both answers can be asked for without a token, so they name states and parts, never a source, a path or a message.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edgekit.agent.live import Live
from edgekit.core.device_status import DeviceStatus

MAX_SNAPSHOT_AGE_S = 15.0
"""A snapshot comes every second; without one for this long the process does not move."""

MAX_STARTING_S = 120.0
"""Until the first snapshot."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of `/healthz` or `/readyz`.

    Args:
        ok: 200 or 503.
        state: Of the agent.
        camera: Its state; None before the first snapshot.
        reason: Why not; "" when ok.
    """

    ok: bool
    state: str
    camera: str | None
    reason: str = ""


class SnapshotClock:
    """How old the newest snapshot is, on our own clock: its own is the wall's, which may jump."""

    def __init__(self, live: Live, clock: Callable[[], float]) -> None:
        self._live = live
        self._clock = clock
        self._seen: DeviceStatus | None = None
        self._seen_s = clock()

    def look(self) -> tuple[DeviceStatus | None, float]:
        """The newest snapshot and the seconds since it was first seen; None and those since the start before."""
        status = self._live.status()
        if status is not self._seen:
            self._seen, self._seen_s = status, self._clock()
        return status, self._clock() - self._seen_s


def judge_health(status: DeviceStatus | None, age_s: float, overdue: tuple[str, ...]) -> Health:
    """Whether the process moves.

    Args:
        status: The newest snapshot.
        age_s: Seconds since it came; since the start when there is none.
        overdue: Parts that have not beaten in time, as the watchdog sees it.
    """
    reason = ""
    limit_s = MAX_STARTING_S if status is None else MAX_SNAPSHOT_AGE_S
    if overdue:
        reason = f"does not move: {', '.join(overdue)}"
    elif status is not None and status.state == "wedged":
        reason = "a part does not move"
    elif age_s > limit_s:
        reason = f"no snapshot for {age_s:.0f} s"
    return _health(status, reason)


def judge_readiness(status: DeviceStatus | None, age_s: float, overdue: tuple[str, ...]) -> Health:
    """Whether it answers what the camera sees: it moves, the model is loaded, the camera gives frames that change."""
    reason = judge_health(status, age_s, overdue).reason
    if not reason:
        if status is None:
            reason = "starting"
        elif status.state == "stopping":
            reason = "stopping"
        elif status.model is None:
            reason = "the model is not loaded yet"
        elif status.camera.state not in {"streaming", "degraded"}:
            reason = f"camera {status.camera.state}"
        elif status.state != "serving":
            reason = status.state
    return _health(status, reason)


def _health(status: DeviceStatus | None, reason: str) -> Health:
    return Health(
        ok=not reason,
        state="starting" if status is None else status.state,
        camera=None if status is None else status.camera.state,
        reason=reason,
    )
