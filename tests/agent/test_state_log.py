from __future__ import annotations

import logging

import msgspec
import pytest

from agent_statuses import healthy_status
from edgekit.agent.state_log import StateLog
from edgekit.core.device_status import DriftStatus, MqttStatus, ThrottleStatus


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    found = [(record.levelname, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return found


def test_log_tells_changes_once_and_silence_means_that_nothing_changed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edgekit")
    log, healthy = StateLog(), healthy_status()
    log.offer(healthy)
    assert lines(caplog) == [("INFO", "agent: serving"), ("INFO", "camera /dev/video0: streaming")]
    log.offer(healthy)
    assert lines(caplog) == []

    lost = msgspec.structs.replace(healthy.camera, state="lost", detail="no frame for 2.0 s")
    log.offer(healthy_status(state="waiting", camera=lost))
    log.offer(healthy_status(state="waiting", camera=lost))
    assert lines(caplog) == [
        ("WARNING", "agent: waiting"),
        ("WARNING", "camera /dev/video0: lost (no frame for 2.0 s)"),
    ]


def test_log_warns_of_throttling_drift_and_a_broker_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "edgekit")
    log, healthy = StateLog(), healthy_status()
    system = msgspec.structs.replace(healthy.system, throttle=ThrottleStatus(throttled=True))
    drift = DriftStatus(n=500, psi=0.4, mean_confidence=0.5, brightness=10.0, sharpness=1.0, flags=("classes",))
    log.offer(healthy_status(system=system, drift=drift, mqtt=MqttStatus(state="offline", detail="refused")))
    log.offer(healthy)
    assert [message for _, message in lines(caplog)] == [
        "MQTT: offline (refused)",
        "the board is throttled",
        "drift: classes",
        "the board is no longer throttled",
        "drift: gone",
    ]
