"""One line that says how the agent does: what it sees, how old that is, what it costs, and what is wrong."""

from __future__ import annotations

from edgekit.core.device_status import CameraStatus, DeviceStatus, StageLatency, StageName

_SHOWN: tuple[tuple[StageName, str], ...] = (("end_to_end", "age"), ("inference", "model"))
"""Stages in the line. A frame's age at its answer is what a viewer feels; the model's part of it is what compression
can change."""


def status_line(status: DeviceStatus) -> str:
    """The line, for a terminal or a log.

    Percentiles stand only where the early-stopping rule allows them, so a young agent shows medians.
    """
    parts = [_head(status), _answer(status), _camera(status.camera), f"{status.fps_out:.1f} answers/s"]
    parts += _latency(status)
    parts.append(_system(status))
    parts += _troubles(status)
    return " | ".join(part for part in parts if part)


def _head(status: DeviceStatus) -> str:
    return status.state.upper() if status.state != "serving" else "serving"


def _answer(status: DeviceStatus) -> str:
    if status.answer is None:
        return ""
    return f"{status.answer.label} {status.answer.confidence:.0%}"


def _camera(camera: CameraStatus) -> str:
    if camera.state in ("streaming", "degraded"):
        line = f"{camera.width}x{camera.height} at {camera.fps_in:.1f} fps"
        return line if camera.state == "streaming" else f"camera DEGRADED, {line}"
    line = f"camera {camera.state.upper()}" if camera.state in ("lost", "frozen") else f"camera {camera.state}"
    if camera.retry_in_s is not None:
        line += f", again in {camera.retry_in_s:.1f} s"
    return f"{line}: {camera.detail}" if camera.detail else line


def _latency(status: DeviceStatus) -> list[str]:
    stages = status.recent.stages if status.recent is not None and status.recent.stages else status.total
    by_name = {stage.stage: stage for stage in stages if stage.n}
    return [f"{title} {_percentiles(by_name[name])}" for name, title in _SHOWN if name in by_name]


def _percentiles(stage: StageLatency) -> str:
    """The highest percentiles that may be told, with their number of frames."""
    named = (("p50", stage.p50_ms), ("p90", stage.p90_ms), ("p99", stage.p99_ms))
    told = [f"{name} {_milliseconds(value)}" for name, value in named if value is not None]
    return f"{' '.join(told) or '-'} ms (n={stage.n})"


def _milliseconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _system(status: DeviceStatus) -> str:
    system = status.system
    words = [f"CPU {system.cpu_percent:.0f} %", f"{system.rss_mib:.0f} MiB"]
    if system.temperature_c is not None:
        words.append(f"{system.temperature_c:.0f} C")
    return " ".join(words)


def _troubles(status: DeviceStatus) -> list[str]:
    found: list[str] = []
    throttle = status.system.throttle
    if throttle is not None and throttle.under_voltage:
        found.append("UNDER-VOLTAGE")
    if throttle is not None and throttle.is_slowed:
        found.append("THROTTLED")
    if status.drift is not None and status.drift.flags:
        found.append(f"DRIFT in {', '.join(status.drift.flags)}")
    if status.mqtt.state in ("connecting", "offline"):
        waiting = f", {status.mqtt.num_pending} records wait" if status.mqtt.num_pending else ""
        found.append(f"MQTT {status.mqtt.state}{waiting}")
    if status.detail:
        found.append(status.detail)
    return found
