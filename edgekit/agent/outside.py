"""Everything that tells the outside how the agent does: page, metrics, broker, record, samples, terminal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from edgekit.agent.config import AgentConfig, find_state_dir
from edgekit.agent.lifecycle.heartbeats import Heartbeats
from edgekit.agent.live import Live
from edgekit.agent.loop import AnswerSink, FrameSource
from edgekit.agent.reporter import Reporter, StatusSink
from edgekit.agent.snapshots import SnapshotMaker
from edgekit.agent.state_log import StateLog
from edgekit.agent.telemetry.drift import DriftWatch
from edgekit.agent.telemetry.recorder import Recorder
from edgekit.agent.telemetry.sample_store import SampleStore
from edgekit.agent.telemetry.samples import SAMPLES_DIR
from edgekit.agent.telemetry.system import SystemReader
from edgekit.core.device_status import CameraStatus, DeviceStatus, ModelStatus
from edgekit.core.errors import MissingDependencyError
from edgekit.core.frame import Answer, Frame
from edgekit.runtime.board import detect_board

if TYPE_CHECKING:
    from edgekit.agent.mqtt.publisher import MqttPublisher
    from edgekit.agent.web.server import WebServer

_logger = logging.getLogger(__name__)

_LIMIT_S = 10.0
"""How long each of them may be silent."""

_MQTT_LIMIT_S = 14.0
"""Longer: its thread waits for the disk."""

_STOP_S = 1.0


class Outside:
    """The tellers, started before the model is there and stopped after the last frame.

    Args:
        config: Which of them, and how.
        camera: What is told of the camera until there is one.
        heartbeats: Where each of them beats.
        pids: The processes that count as the agent.
        sinks: Get every snapshot, besides those that the configuration names.
    """

    def __init__(
        self,
        config: AgentConfig,
        camera: CameraStatus,
        heartbeats: Heartbeats,
        pids: Callable[[], tuple[int, ...]],
        sinks: Sequence[StatusSink],
    ) -> None:
        self.live = Live()
        self.state_dir = find_state_dir(config.state_dir)
        self._config = config
        self._heartbeats = heartbeats
        self._snapshots = SnapshotMaker(
            config.device_name, camera, SystemReader(detect_board(), pids), heartbeats.overdue
        )
        self._web = self._make_web()
        self._mqtt = self._make_mqtt()
        self._store = None if config.samples is None else SampleStore(self.state_dir / SAMPLES_DIR, config.samples)
        self._recorder = None if config.record is None else Recorder(self.state_dir, config.record)
        self._snapshots.mqtt, self._snapshots.recorder = self._mqtt, self._recorder
        self._reporter = Reporter(
            self._snapshots.collect,
            [
                _StatusToLive(self.live),
                *([self._mqtt] if self._mqtt is not None else []),
                *([_ToRecorder(self._recorder)] if self._recorder is not None else []),
                *sinks,
                StateLog(),
            ],
            beat=heartbeats.register("reporter", _LIMIT_S),
        )

    @property
    def web_address(self) -> str | None:
        """Of the live page; None without one."""
        return None if self._web is None else self._web.address

    def start(self) -> None:
        """Start them.

        Raises:
            UsageError, OutputError: The page's port is in use, or may not be used.
        """
        if self._web is not None:
            self._start_web(self._web)
        if self._mqtt is not None:
            self._mqtt.start()
        self._reporter.start()

    def serve(
        self, source: FrameSource, model: ModelStatus, labels: tuple[str, ...], baseline: tuple[float, ...] | None
    ) -> tuple[AnswerSink, ...]:
        """Learn what serves; gives those who want every answer.

        Args:
            source: The camera.
            model: The model.
            labels: Its class names in output order.
            baseline: Share of each class on test pictures; None when it is not known.
        """
        self._snapshots.begin(source, model)
        self._reporter.hurry()
        sinks: list[AnswerSink] = [_ToSnapshots(self._snapshots), _AnswersToLive(self.live)]
        if self._config.drift is not None:
            drift = DriftWatch(baseline, self._config.drift, labels=labels, store=self._store)
            self._snapshots.drift = drift
            sinks.append(drift)
        return tuple(sinks)

    def tell(self, note: str) -> None:
        """Show a note in every snapshot from now on; "" for none."""
        self._snapshots.note = note

    def stop(self) -> None:
        """Tell a last time, and end. Idempotent."""
        self._snapshots.is_stopping = True
        self._reporter.stop()
        # the last snapshot is in the outbox now; viewers and broker say goodbye side by side
        endings = [
            threading.Thread(target=part.stop, daemon=True) for part in (self._mqtt, self._web) if part is not None
        ]
        for ending in endings:
            ending.start()
        for ending in endings:
            ending.join(_STOP_S)
        if self._store is not None:
            self._store.stop()
        if self._recorder is not None:
            self._recorder.close()

    def _start_web(self, web: WebServer) -> None:
        """Start the page; a board without its packages still classifies."""
        try:
            web.start()
        except MissingDependencyError as error:
            _logger.warning("no live page: %s (%s)", error.message, error.hint)
            self._heartbeats.unregister("web")
            self._web = None

    def _make_web(self) -> WebServer | None:
        if self._config.web is None:
            return None
        from edgekit.agent.web.server import WebServer

        beat = self._heartbeats.register("web", _LIMIT_S)
        return WebServer(self._config.web, self.live, beat=beat, overdue=self._heartbeats.overdue)

    def _make_mqtt(self) -> MqttPublisher | None:
        if self._config.mqtt is None:
            return None
        from edgekit.agent.mqtt.publisher import MqttPublisher

        # the outbox lies where everything lies that outlives the process, unless it was told where
        outbox_path = self.state_dir / self._config.mqtt.outbox_path
        config = msgspec.structs.replace(self._config.mqtt, outbox_path=str(outbox_path))
        return MqttPublisher(config, self._config.device_name, beat=self._heartbeats.register("mqtt", _MQTT_LIMIT_S))


class _StatusToLive:
    """Snapshots for those who look whenever they like."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def offer(self, status: DeviceStatus) -> None:
        self._live.put_status(status)


class _ToRecorder:
    """Snapshots for the record on disk."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def offer(self, status: DeviceStatus) -> None:
        self._recorder.offer(status)


class _AnswersToLive:
    """Answers and their pictures, for the same."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def offer(self, frame: Frame, answer: Answer) -> None:
        self._live.put(frame, answer)


class _ToSnapshots:
    """Answers for the snapshots' counters and histograms."""

    def __init__(self, snapshots: SnapshotMaker) -> None:
        self._snapshots = snapshots

    def offer(self, frame: Frame, answer: Answer) -> None:
        del frame
        self._snapshots.offer(answer)
