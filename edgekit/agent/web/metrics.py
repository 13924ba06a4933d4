"""The snapshot for Prometheus: base units, and nothing that the snapshot does not hold. Needs prometheus_client."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import get_args

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgekit.core.device_status import (
    AgentState,
    CameraState,
    CameraStatus,
    DeviceStatus,
    DriftStatus,
    LatencyWindow,
    ModelStatus,
    MqttState,
    MqttStatus,
    StageLatency,
    SystemStatus,
)

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MIB = 1024 * 1024
_THROTTLES = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")
_DRIFTS = ("classes", "confidence", "brightness", "blur")


class WebCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What the web server knows about itself.

    Args:
        num_picture_viewers: Open streams of pictures.
        num_prediction_viewers: Open streams of predictions.
        num_pictures: Pictures made for viewers; each once, however many look.
        num_stalled: Viewers dropped because they did not read.
        num_turned_away: Viewers refused because there were too many.
    """

    num_picture_viewers: int
    num_prediction_viewers: int
    num_pictures: int
    num_stalled: int
    num_turned_away: int


def write_metrics(status: DeviceStatus | None, age_s: float, counts: WebCounts) -> bytes:
    """Write all metrics in the text format.

    Args:
        status: The newest snapshot; before the first there are only the web server's own metrics.
        age_s: Seconds since it came.
        counts: The web server's own.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SnapshotCollector(status, age_s, counts))
    return generate_latest(registry)


class SnapshotCollector(Collector):
    """Metrics of one snapshot."""

    def __init__(self, status: DeviceStatus | None, age_s: float, counts: WebCounts) -> None:
        self._status = status
        self._age_s = age_s
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Make the metrics."""
        yield from _web(self._counts)
        status = self._status
        if status is None:
            return
        yield _gauge("snapshot_age_seconds", "Since the agent wrote what is told here.", self._age_s)
        yield from _agent(status)
        yield from _camera(status.camera)
        yield from _latency(status.total)
        yield from _system(status.system)
        yield from _mqtt(status.mqtt)
        if status.model is not None:
            yield from _model(status.model)
        if status.recent is not None:
            yield from _window(status.recent)
        if status.drift is not None:
            yield from _drift(status.drift)


def _web(counts: WebCounts) -> Iterator[Metric]:
    viewers = GaugeMetricFamily("edgekit_web_viewers", "Who looks now.", labels=["kind"])
    viewers.add_metric(["pictures"], counts.num_picture_viewers)
    viewers.add_metric(["predictions"], counts.num_prediction_viewers)
    yield viewers
    yield _counter("web_pictures", "Pictures made for viewers, each once, however many look.", counts.num_pictures)
    yield _counter("web_stalled_viewers", "Viewers dropped because they did not read.", counts.num_stalled)
    yield _counter("web_refused_viewers", "Viewers refused because there were too many.", counts.num_turned_away)


def _agent(status: DeviceStatus) -> Iterator[Metric]:
    yield _constant("info", "The board and its agent.", {"device_id": status.device_id, "board": status.system.board})
    yield _states("agent_state", "What the agent does: 1 for its state.", get_args(AgentState), (status.state,))
    yield _gauge("uptime_seconds", "Since the agent started.", status.uptime_s)
    yield _counter("answers", "Frames answered since the agent started.", status.num_answers)
    yield _gauge("answers_per_second", "Frames answered per second, over the last seconds.", status.fps_out)
    if status.answer is not None:
        yield _gauge("answer_confidence_ratio", "Of the newest answer.", status.answer.confidence)


def _camera(camera: CameraStatus) -> Iterator[Metric]:
    yield _states("camera_state", "What the camera does: 1 for its state.", get_args(CameraState), (camera.state,))
    yield _counter("camera_frames", "Frames that the camera gave.", camera.num_grabbed)
    yield _counter("camera_dropped_frames", "Frames not answered because newer ones had come.", camera.num_dropped)
    yield _counter("camera_losses", "How often the camera was lost.", camera.num_lost)
    yield _gauge("camera_frames_per_second", "Frames grabbed per second, over the last seconds.", camera.fps_in)
    yield _gauge("camera_declared_frames_per_second", "What the camera promises.", camera.declared_fps)
    yield _gauge("camera_width_pixels", "Of its pictures; 0 before the first.", camera.width)
    yield _gauge("camera_height_pixels", "Of its pictures; 0 before the first.", camera.height)


def _model(model: ModelStatus) -> Iterator[Metric]:
    yield _constant(
        "model_info",
        "The model that serves.",
        {
            "name": model.name,
            "scheme": model.scheme,
            "sha256": model.sha256,
            "release": "" if model.release is None else str(model.release),
            "runtime": model.runtime,
        },
    )
    yield _gauge("model_packed_bytes", "The packed file (.ekz).", model.packed_bytes)
    yield _gauge("model_file_bytes", "The model file.", model.file_bytes)
    yield _gauge("model_resident_bytes", "Memory that loading and the first inference took.", model.resident_mib * _MIB)
    yield _gauge("model_load_seconds", "Unpacking and loading.", model.load_ms / 1e3)
    yield _gauge("model_first_inference_seconds", "Which no latency contains.", model.first_inference_ms / 1e3)
    yield _gauge("model_golden_pictures", "Answered right before it served.", model.num_golden)
    yield _gauge("model_threads", "Threads of the runtime.", model.num_threads)
    yield _gauge("model_classes", "Classes that it tells apart.", model.num_classes)


def _latency(stages: Sequence[StageLatency]) -> Iterator[Metric]:
    """Quantiles as the snapshot holds them: none where there are too few frames for one."""
    text = "Per stage, since the agent started; quantiles are upper bounds, absent below the frames they need."
    summary = Metric("edgekit_latency_seconds", text, "summary")
    largest = GaugeMetricFamily(
        "edgekit_latency_max_seconds", "Largest latency per stage since the agent started.", labels=["stage"]
    )
    for row in stages:
        for quantile, value_ms in (("0.5", row.p50_ms), ("0.9", row.p90_ms), ("0.99", row.p99_ms)):
            if value_ms is not None:
                labels = {"stage": row.stage, "quantile": quantile}
                summary.add_sample("edgekit_latency_seconds", labels, value_ms / 1e3)
        summary.add_sample("edgekit_latency_seconds_sum", {"stage": row.stage}, row.mean_ms * row.n / 1e3)
        summary.add_sample("edgekit_latency_seconds_count", {"stage": row.stage}, row.n)
        largest.add_metric([row.stage], row.max_ms / 1e3)
    yield summary
    yield largest


def _window(window: LatencyWindow) -> Iterator[Metric]:
    latency = GaugeMetricFamily(
        "edgekit_window_latency_seconds",
        "Per stage, in the last complete window; absent where it has too few frames.",
        labels=["stage", "statistic"],
    )
    frames = GaugeMetricFamily("edgekit_window_frames", "Frames in the last complete window.", labels=["stage"])
    for row in window.stages:
        frames.add_metric([row.stage], row.n)
        mean_ms, max_ms = (row.mean_ms, row.max_ms) if row.n else (None, None)
        figures = {"mean": mean_ms, "p50": row.p50_ms, "p90": row.p90_ms, "p99": row.p99_ms, "max": max_ms}
        for statistic, value_ms in figures.items():
            if value_ms is not None:
                latency.add_metric([row.stage, statistic], value_ms / 1e3)
    yield latency
    yield frames
    yield _gauge("window_seconds", "Length of the last complete window.", window.seconds)
    yield _gauge("window_slowed", "1 when the board was throttled at any time in it.", window.was_slowed)


def _system(system: SystemStatus) -> Iterator[Metric]:
    yield _gauge("cpu_usage_ratio", "Of one core, of the agent with its camera process.", system.cpu_percent / 100)
    yield _gauge("resident_memory_bytes", "Of the agent with its camera process.", system.rss_mib * _MIB)
    yield _gauge("temperature_celsius", "Of the hottest thermal zone.", system.temperature_c)
    if system.throttle is not None:
        now = [name for name in _THROTTLES if getattr(system.throttle, name)]
        yield _states("throttled", "What slows the board down now.", _THROTTLES, now, label="reason")
        occurred = system.throttle.has_occurred
        names = dict.fromkeys((*_THROTTLES, *occurred))
        yield _states(
            "throttled_since_boot", "What has slowed it down since it booted.", names, occurred, label="reason"
        )
    if system.power_rails:
        volts = GaugeMetricFamily("edgekit_power_rail_volts", "Of the power rail.", labels=["rail"])
        amperes = GaugeMetricFamily("edgekit_power_rail_amperes", "Of the power rail.", labels=["rail"])
        watts = GaugeMetricFamily("edgekit_power_rail_watts", "Of the power rail.", labels=["rail"])
        for rail in system.power_rails:
            volts.add_metric([rail.name], rail.volts)
            amperes.add_metric([rail.name], rail.amperes)
            watts.add_metric([rail.name], rail.watts)
        yield from (volts, amperes, watts)


def _drift(drift: DriftStatus) -> Iterator[Metric]:
    names = dict.fromkeys((*_DRIFTS, *drift.flags))
    yield _states("drift", "What has drifted: 1 for each.", names, drift.flags, label="kind")
    yield _gauge("drift_answers", "Answers in the running statistics.", drift.n)
    yield _gauge("drift_population_stability_index", "Of the classes against the bundle's baseline.", drift.psi)
    yield _gauge("drift_confidence_ratio", "Running mean.", drift.mean_confidence)
    yield _gauge("drift_brightness_ratio", "Running mean of the pictures; 1 is white.", drift.brightness / 255)
    yield _gauge("drift_sharpness", "Running mean of the variance of the Laplacian.", drift.sharpness)
    yield _gauge("sample_pictures", "Pictures kept for a human to label.", drift.num_samples)
    yield _gauge("sample_pictures_bytes", "Their size on disk.", drift.samples_bytes)


def _mqtt(mqtt: MqttStatus) -> Iterator[Metric]:
    yield _states("mqtt_state", "Connection to the broker: 1 for its state.", get_args(MqttState), (mqtt.state,))
    yield _gauge("mqtt_pending_records", "Records that wait in the outbox.", mqtt.num_pending)
    yield _gauge("mqtt_pending_bytes", "Their size on disk.", mqtt.pending_bytes)
    yield _counter("mqtt_delivered_records", "Records that the broker has acknowledged.", mqtt.num_delivered)
    yield _counter("mqtt_dropped_records", "Records dropped because the outbox was full.", mqtt.num_dropped)


def _gauge(name: str, text: str, value: float | None) -> Metric:
    """A gauge; without a sample when the value is not known."""
    gauge = GaugeMetricFamily(f"edgekit_{name}", text)
    if value is not None:
        gauge.add_metric([], float(value))
    return gauge


def _counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(f"edgekit_{name}", text, value=value)


def _constant(name: str, text: str, labels: dict[str, str]) -> Metric:
    gauge = GaugeMetricFamily(f"edgekit_{name}", text, labels=list(labels))
    gauge.add_metric(list(labels.values()), 1)
    return gauge


def _states(name: str, text: str, possible: Iterable[str], actual: Collection[str], *, label: str = "state") -> Metric:
    """One sample for every possible state: 1 for those that hold, else 0."""
    gauge = GaugeMetricFamily(f"edgekit_{name}", text, labels=[label])
    for state in possible:
        gauge.add_metric([state], float(state in actual))
    return gauge
