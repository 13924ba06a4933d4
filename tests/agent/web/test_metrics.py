"""The metrics, judged by Prometheus's own tool."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_live import build_status, replace_camera, stage_rows
from edgekit.core.device_status import DeviceStatus, MqttStatus, ThrottleStatus

pytest.importorskip("prometheus_client", reason="the extra agent is not installed")

from prometheus_client.parser import text_string_to_metric_families

from edgekit.agent.web.metrics import WebCounts, write_metrics

COUNTS = WebCounts(num_picture_viewers=3, num_prediction_viewers=2, num_pictures=1234, num_stalled=1, num_turned_away=0)


def bare() -> DeviceStatus:
    """A board that knows as little as it may."""
    status = build_status(model=None, answer=None, recent=None, total=stage_rows(0), drift=None, mqtt=MqttStatus())
    system = msgspec.structs.replace(status.system, temperature_c=None, throttle=None, power_rails=())
    return replace_camera(msgspec.structs.replace(status, system=system, state="starting"), declared_fps=None)


def troubled() -> DeviceStatus:
    """A board with everything, in trouble, whose names are hostile."""
    status = build_status(device_id='a"b\\c\nd{}', total=stage_rows(70))
    throttle = ThrottleStatus(under_voltage=True, throttled=True, has_occurred=("under_voltage", "something_new"))
    assert status.drift is not None
    assert status.recent is not None
    return msgspec.structs.replace(
        status,
        system=msgspec.structs.replace(status.system, throttle=throttle),
        drift=msgspec.structs.replace(status.drift, flags=("classes",), psi=float("nan")),
        recent=msgspec.structs.replace(status.recent, stages=stage_rows(0), was_slowed=True),
    )


def samples(status: DeviceStatus | None) -> dict[tuple[str, ...], float]:
    """Name and sorted label values, to value."""
    text = write_metrics(status, 0.5, COUNTS).decode()
    families = text_string_to_metric_families(text)
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


@pytest.mark.parametrize("status", [None, bare(), build_status(), troubled()], ids=["none", "bare", "full", "troubled"])
def test_promtool_has_no_complaint(status: DeviceStatus | None) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on the PATH (Debian: prometheus)")
    text = write_metrics(status, 0.5, COUNTS)

    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("status", [None, bare(), build_status(), troubled()], ids=["none", "bare", "full", "troubled"])
def test_every_metric_is_ours_and_says_what_it_is(status: DeviceStatus | None) -> None:
    families = list(text_string_to_metric_families(write_metrics(status, 0.5, COUNTS).decode()))

    assert families
    for family in families:
        assert family.name.startswith("edgekit_")
        assert len(family.documentation) > 4
        assert family.type in {"gauge", "counter", "summary"}
        assert not re.search(r"_(ms|mib|kb|percent|milliseconds)(_|$)", family.name)


def test_values_are_in_base_units() -> None:
    got = samples(build_status())

    assert got["edgekit_model_resident_bytes",] == 6.4 * 1024 * 1024
    assert got["edgekit_model_load_seconds",] == pytest.approx(0.0482)
    assert got["edgekit_cpu_usage_ratio",] == pytest.approx(0.521)
    assert got["edgekit_temperature_celsius",] == 60.8
    assert got["edgekit_answers_total",] == 1_397_111
    assert got["edgekit_camera_dropped_frames_total",] == 1_398_001
    assert got["edgekit_web_viewers", "pictures"] == 3
    assert got["edgekit_snapshot_age_seconds",] == 0.5


def test_latency_is_a_summary_of_what_the_snapshot_holds() -> None:
    rows = {row.stage: row for row in build_status().total}
    got = samples(build_status())

    for stage, row in rows.items():
        for quantile, value_ms in (("0.5", row.p50_ms), ("0.9", row.p90_ms), ("0.99", row.p99_ms)):
            assert value_ms is not None
            assert got["edgekit_latency_seconds", quantile, stage] == pytest.approx(value_ms / 1e3)
        assert got["edgekit_latency_seconds_count", stage] == row.n
        assert got["edgekit_latency_seconds_sum", stage] == pytest.approx(row.mean_ms * row.n / 1e3)


def test_quantile_is_absent_when_there_are_too_few_frames() -> None:
    got = samples(build_status(total=stage_rows(70)))

    assert ("edgekit_latency_seconds", "0.9", "inference") in got
    assert ("edgekit_latency_seconds", "0.99", "inference") not in got
    assert ("edgekit_window_latency_seconds", "inference", "p99") not in got  # 500 frames
    assert ("edgekit_window_latency_seconds", "inference", "p90") in got


@pytest.mark.parametrize(
    ("field", "name"),
    [("camera", "edgekit_camera_state"), ("agent", "edgekit_agent_state"), ("mqtt", "edgekit_mqtt_state")],
)
def test_exactly_one_state_is_on(field: str, name: str) -> None:
    states: dict[str, Any] = {key[1]: value for key, value in samples(build_status()).items() if key[0] == name}
    expected = {"camera": "streaming", "agent": "serving", "mqtt": "connected"}[field]

    assert [state for state, value in states.items() if value] == [expected]
    assert len(states) > 3


def test_trouble_is_told_and_what_is_not_known_is_absent() -> None:
    got = samples(troubled())
    assert got["edgekit_throttled", "under_voltage"] == 1
    assert got["edgekit_throttled", "frequency_capped"] == 0
    assert got["edgekit_throttled_since_boot", "something_new"] == 1
    assert got["edgekit_drift", "classes"] == 1
    assert got["edgekit_window_slowed",] == 1

    names = {key[0] for key in samples(bare())}
    for unknown in ("temperature_celsius", "throttled", "model_file_bytes", "window_seconds", "drift"):
        assert f"edgekit_{unknown}" not in names


def test_docs_name_every_metric_and_no_other(repository: Path) -> None:
    page = (repository / "docs" / "agent-web.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`(edgekit_[a-z0-9_]+)[`{]", page))
    families = text_string_to_metric_families(write_metrics(build_status(), 0.5, COUNTS).decode())

    assert told == {family.name + ("_total" if family.type == "counter" else "") for family in families}
