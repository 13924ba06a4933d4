from __future__ import annotations

import msgspec
import pytest

from agent_statuses import healthy_status, stage_latency
from edgekit.agent.status_line import status_line
from edgekit.core.device_status import DriftStatus, MqttStatus, SystemStatus, ThrottleStatus


def test_line_of_a_healthy_agent_says_answer_rate_age_and_cost() -> None:
    line = status_line(healthy_status())
    for part in ("serving", "Sneaker 98%", "640x480 at 29.9 fps", "29.8 answers/s", "CPU 34 %", "88 MiB", "52 C"):
        assert part in line
    assert "age p50 6.00 p90 7.80 ms (n=300)" in line


def test_line_shows_no_percentile_below_its_number_of_frames() -> None:
    young = healthy_status(recent=None, total=(stage_latency("end_to_end", n=63),))
    assert "age p50 10.0 ms (n=63)" in status_line(young)


def test_line_says_nothing_of_latency_before_the_first_frame() -> None:
    line = status_line(healthy_status(recent=None, total=(), answer=None, model=None, state="starting"))
    assert line.startswith("STARTING | 640x480")
    assert "age" not in line


@pytest.mark.parametrize("state", ["lost", "frozen"])
def test_line_shouts_what_is_wrong_with_the_camera(state: str) -> None:
    healthy = healthy_status()
    camera = msgspec.structs.replace(healthy.camera, state=state, detail="no frame for 2.0 s", retry_in_s=1.5)
    line = status_line(healthy_status(state="waiting", camera=camera))
    assert line.startswith("WAITING")
    assert f"camera {state.upper()}, again in 1.5 s: no frame for 2.0 s" in line


def test_line_names_throttling_drift_and_waiting_records() -> None:
    system = SystemStatus(
        board="raspberry_pi_4b",
        cpu_percent=100.0,
        rss_mib=88.0,
        temperature_c=None,
        throttle=ThrottleStatus(under_voltage=True, throttled=True),
    )
    drift = DriftStatus(n=500, psi=0.4, mean_confidence=0.5, brightness=10.0, sharpness=1.0, flags=("classes", "blur"))
    line = status_line(healthy_status(system=system, drift=drift, mqtt=MqttStatus(state="offline", num_pending=42)))
    for part in ("UNDER-VOLTAGE", "THROTTLED", "DRIFT in classes, blur", "MQTT offline, 42 records wait"):
        assert part in line
