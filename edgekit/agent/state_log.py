"""Lines for the log when something changes, and only then: a board's journal is read by people, months later."""

from __future__ import annotations

import logging

from edgekit.core.device_status import AgentState, CameraState, DeviceStatus, MqttState

_logger = logging.getLogger(__name__)

_GOOD: frozenset[str] = frozenset(("streaming", "opening", "ended", "connected", "connecting", "off", "serving"))


class StateLog:
    """A sink of snapshots that logs changes of state: trouble as warnings, the rest as information."""

    def __init__(self) -> None:
        self._agent: AgentState | None = None
        self._camera: CameraState | None = None
        self._mqtt: MqttState = "off"
        self._flags: tuple[str, ...] = ()
        self._is_slowed = False

    def offer(self, status: DeviceStatus) -> None:
        """Log what differs from the last snapshot."""
        if status.state != self._agent:
            _tell("agent", status.state, status.detail)
        if status.camera.state != self._camera:
            _tell(f"camera {status.camera.source or status.camera.kind}", status.camera.state, status.camera.detail)
        if status.mqtt.state != self._mqtt:
            _tell("MQTT", status.mqtt.state, status.mqtt.detail)
        throttle = status.system.throttle
        is_slowed = throttle is not None and throttle.is_slowed
        if is_slowed != self._is_slowed:
            _logger.warning("the board is %s", "throttled" if is_slowed else "no longer throttled")
        flags = status.drift.flags if status.drift is not None else ()
        if flags != self._flags:
            _logger.warning("drift: %s", ", ".join(flags) or "gone")
        self._agent, self._camera, self._mqtt = status.state, status.camera.state, status.mqtt.state
        self._flags, self._is_slowed = flags, is_slowed


def _tell(what: str, state: str, detail: str) -> None:
    level = logging.INFO if state in _GOOD else logging.WARNING
    _logger.log(level, "%s: %s%s", what, state, f" ({detail})" if detail else "")
