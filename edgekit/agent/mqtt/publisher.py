"""The thread between the agent and the broker. It owns the outbox, the connection and every decision about both.

The agent's threads only put drafts into a queue: neither the disk nor the network makes them wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgekit.agent.mqtt.clock import Clock, SystemClock
from edgekit.agent.mqtt.config import MqttConfig, check_config
from edgekit.agent.mqtt.dialling import require_paho
from edgekit.agent.mqtt.link import Link, Waker
from edgekit.agent.mqtt.outbox import Outbox
from edgekit.agent.mqtt.records import Draft
from edgekit.agent.mqtt.reporting import EventReport, Reporting, make_draft, make_state
from edgekit.agent.mqtt.session import Station
from edgekit.agent.mqtt.topics import device_topics
from edgekit.core.device_status import DeviceStatus, MqttState, MqttStatus

_LOG = logging.getLogger(__name__)

_STOP_S = 1.0
_MAX_WAITING_DRAFTS = 10_000


class MqttPublisher:
    """Reports of this device to a broker. Any thread may call anything.

    Args:
        config: Broker and outbox.
        device_id: Name of the device: a level of its topics.
        beat: Called at least every few seconds while the thread moves.
        clock: Time of the records.

    Raises:
        UsageError: A value of `config`, or the device id, cannot be.
        MissingDependencyError: paho-mqtt is not installed.
    """

    def __init__(
        self,
        config: MqttConfig,
        device_id: str,
        *,
        beat: Callable[[], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        check_config(config, device_id)
        require_paho()
        self._config = config
        self._clock: Clock = SystemClock() if clock is None else clock
        self._station = Station(
            config=config, device_id=device_id, topics=device_topics(config, device_id), clock=self._clock
        )
        self._beat = beat
        self._changed = threading.Condition()  # guards everything below
        self._waiting: deque[Draft] = deque()
        self._num_offered = 0
        self._num_stored = 0
        self._num_overflowed = 0
        self._reporting = Reporting(interval_s=config.interval_s, label_hold_s=config.label_hold_s)
        self._latest: DeviceStatus | None = None
        self._is_state_due = False
        self._status = MqttStatus(state="off")
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._waker: Waker | None = None

    # ---------------------------------------------------------------------------------------------- any thread

    def start(self) -> None:
        """Begin. Idempotent; never fails because of the broker or the disk."""
        with self._changed:
            if self._thread is not None or self._is_stopping:
                return
            self._waker = Waker()
            self._status = MqttStatus(state="connecting")
            self._thread = threading.Thread(target=self._run, args=(self._waker,), name="mqtt", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End: what was offered is on disk, the broker knows that the device has left. Idempotent, about a second."""
        with self._changed:
            self._is_stopping = True
            thread = self._thread
        self._wake()
        if thread is None:
            return
        thread.join(_STOP_S)
        if thread.is_alive():
            _LOG.warning("mqtt: the disk did not take the last records within %.0f s", _STOP_S)

    def offer(self, status: DeviceStatus) -> None:
        """Look at a snapshot and record of it what is worth a record. Never waits."""
        now = self._clock.now()
        with self._changed:
            if self._is_stopping:
                return
            drafts = self._reporting.offer(status, now)
            is_first = self._latest is None
            self._latest = status
            self._is_state_due = self._is_state_due or bool(drafts)
            self._enqueue(drafts)
        if drafts or is_first:
            self._wake()

    def offer_event(self, kind: str, payload: msgspec.Struct | None = None) -> None:
        """Record something that is no state of agent or camera. Never waits.

        Args:
            kind: Name of the event.
            payload: More about it; anything that msgspec encodes as a JSON object.
        """
        more = None if payload is None else msgspec.Raw(msgspec.json.encode(payload))
        draft = make_draft("event", EventReport(event=kind, more=more), self._clock.now())
        with self._changed:
            if self._is_stopping:
                return
            self._enqueue([draft])
        self._wake()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything offered so far is on disk; False when it is not, after this time."""
        with self._changed:
            target = self._num_offered
            return self._changed.wait_for(lambda: self._num_stored >= target, timeout_s)

    def status(self) -> MqttStatus:
        """How it is."""
        with self._changed:
            status = self._status
            return msgspec.structs.replace(
                status,
                num_pending=status.num_pending + len(self._waiting),
                num_dropped=status.num_dropped + self._num_overflowed,
            )

    def _enqueue(self, drafts: list[Draft]) -> None:
        self._num_offered += len(drafts)
        self._waiting.extend(drafts)
        while len(self._waiting) > _MAX_WAITING_DRAFTS:  # the disk has stood still for hours
            self._waiting.popleft()
            self._num_overflowed += 1

    def _wake(self) -> None:
        waker = self._waker
        if waker is not None:
            waker.wake()

    # ---------------------------------------------------------------------------------------------- the thread

    def _run(self, waker: Waker) -> None:
        outbox = Outbox(Path(self._config.outbox_path), max_bytes=self._config.max_bytes, clock=self._clock)
        link = Link(self._station, outbox, waker)
        try:
            while not self._is_stopping:
                if self._beat is not None:
                    self._beat()
                self._store(outbox)
                outbox.retry()
                self._move(link)
                self._tell(outbox, link, link.state)
                if not self._waiting:
                    link.wait(time.monotonic())
            self._store(outbox)
        finally:
            link.close()
            outbox.close()
            if outbox.num_in_memory:
                _LOG.warning("mqtt: %d records are lost: %s", outbox.num_in_memory, outbox.detail)
            self._tell(outbox, link, "off")
            waker.close()

    def _store(self, outbox: Outbox) -> None:
        """Move what was offered into the outbox."""
        with self._changed:
            drafts = list(self._waiting)
        if drafts:
            outbox.append(drafts)
            with self._changed:
                for _ in range(min(len(drafts), len(self._waiting))):
                    self._waiting.popleft()

    def _move(self, link: Link) -> None:
        now_s = time.monotonic()
        with self._changed:
            latest, is_changed = self._latest, self._is_state_due
            self._is_state_due = False
        link.tell(latest, is_changed=is_changed, now_s=now_s)
        link.move(now_s)
        if link.wants_report and latest is not None:
            link.wants_report = False
            with self._changed:
                self._enqueue([make_draft("status", make_state(latest), self._clock.now())])
                self._is_state_due = True

    def _tell(self, outbox: Outbox, link: Link, state: MqttState) -> None:
        """Make the status that other threads read."""
        status = MqttStatus(
            state=state,
            detail="; ".join(part for part in (link.detail, outbox.detail) if part),
            num_pending=outbox.num_pending,
            pending_bytes=outbox.pending_bytes,
            num_delivered=link.num_delivered,
            num_dropped=outbox.num_dropped,
            outbox=outbox.state,
            num_ignored=link.num_ignored,
        )
        with self._changed:
            self._status = status
            if outbox.num_in_memory == 0:
                self._num_stored = self._num_offered - len(self._waiting)
            self._changed.notify_all()
