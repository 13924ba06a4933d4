"""What is said over one accepted connection: availability, discovery, state, records; and what is heard."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from edgekit.agent.mqtt.clock import Clock
from edgekit.agent.mqtt.commands import parse_command
from edgekit.agent.mqtt.config import MqttConfig
from edgekit.agent.mqtt.connection import Acknowledgement, Connection, Message
from edgekit.agent.mqtt.discovery import DiscoveryMessage
from edgekit.agent.mqtt.outbox import Outbox
from edgekit.agent.mqtt.pacing import Backoff, Pace
from edgekit.agent.mqtt.records import encode_record
from edgekit.agent.mqtt.topics import OFFLINE, ONLINE, Topics

ACKNOWLEDGE_S = 30.0
"""A broker that acknowledges nothing for so long is taken for dead."""

_PROBE_MIN_S = 0.5
_PROBE_MAX_S = 30.0
_ANNOUNCE_GAP_S = 2.0


class Station(msgspec.Struct, frozen=True, kw_only=True):
    """Who speaks.

    Args:
        config: Pace, discovery.
        device_id: Name of the device.
        topics: Of the device.
        clock: Time of the records.
    """

    config: MqttConfig
    device_id: str
    topics: Topics
    clock: Clock


class Session:
    """An accepted connection.

    Records go out in the order of their numbers. The first goes alone: only when the broker has taken it, and somebody
    was there to get it, the others follow. So a broker that refuses, or whose subscribers are not back yet after a
    restart, mixes up no order.

    Args:
        connection: Accepted.
        outbox: Whose records are sent.
        station: Who speaks.
        announcement: What Home Assistant is told now.
        now_s: The caller's clock.
    """

    def __init__(
        self,
        connection: Connection,
        outbox: Outbox,
        station: Station,
        *,
        announcement: Callable[[], list[DiscoveryMessage]],
        now_s: float,
    ) -> None:
        self._connection = connection
        self._outbox = outbox
        self._topics = station.topics
        self._config = station.config
        self._device_id = station.device_id
        self._clock = station.clock
        self._announcement = announcement
        self._connected = station.clock.now()
        self._began_s = now_s
        self._pace = Pace(station.config.pace, now_s)
        self._probes = Backoff(_PROBE_MIN_S, _PROBE_MAX_S)
        self._in_flight: dict[int, tuple[int, float]] = {}  # message id -> (sequence, sent at)
        self._is_open = False
        self._is_held = False
        self._is_closed = False
        self._is_starved = False
        self._held_until_s = 0.0
        self._announce_at_s: float | None = None
        self.is_overdue = False
        self.detail = ""
        self.num_delivered = 0
        self.num_ignored = 0
        self.wants_report = False
        self._greet()

    def _greet(self) -> None:
        self._connection.retain(self._topics.availability, ONLINE)
        self._announce()
        listen = (self._topics.command,)
        if self._config.discovery:
            listen = (*listen, self._topics.home_assistant_status)
        self._connection.subscribe(listen)

    def tell_state(self, payload: bytes) -> None:
        """Replace the state of the device."""
        self._connection.retain(self._topics.state, payload)

    def announce_at(self, at_s: float) -> None:
        """Tell Home Assistant (again) at a time; several requests become one."""
        if self._announce_at_s is None:
            self._announce_at_s = at_s

    def step(self, now_s: float) -> None:
        """Do what can be done now."""
        self._hear_acknowledgements(now_s)
        while self._connection.messages:
            self._hear(self._connection.messages.popleft(), now_s)
        if self._announce_at_s is not None and now_s >= self._announce_at_s:
            self._announce_at_s = None
            self._connection.retain(self._topics.availability, ONLINE)
            self._announce()
        self._send_records(now_s)

    def wait_s(self, now_s: float) -> float:
        """Seconds until `step` has something to do that no event of the network announces."""
        if self._is_held:
            return ACKNOWLEDGE_S if self._in_flight else max(0.0, self._held_until_s - now_s)
        if self._is_closed or self._is_starved or self._outbox.num_pending <= self._outbox.num_in_flight:
            return ACKNOWLEDGE_S
        if self._allowance(now_s) > 0:
            return 0.0
        return ACKNOWLEDGE_S if self._in_flight else max(0.001, self._pace.wait_s(now_s))

    def close(self) -> None:
        """Send no more records."""
        self._is_closed = True

    def part(self) -> None:
        """Say goodbye: the last words before the connection is closed politely."""
        self._connection.retain(self._topics.availability, OFFLINE)

    @property
    def num_in_flight(self) -> int:
        """Records that the broker has not answered."""
        return len(self._in_flight)

    # ----------------------------------------------------------------------------------------------------- saying

    def _announce(self) -> None:
        if self._config.discovery:
            for message in self._announcement():
                self._connection.retain(message.topic, message.payload)

    def _allowance(self, now_s: float) -> int:
        if self._is_held or self._is_closed:
            return 0
        window = self._pace.allowance(now_s, len(self._in_flight))
        if not self._is_open:
            window = min(window, 1 - len(self._in_flight))
        return min(window, self._connection.room)

    def _send_records(self, now_s: float) -> None:
        if self._is_held:
            if self._in_flight or now_s < self._held_until_s:
                return
            self._is_held = False
            self._outbox.release()
        allowance = self._allowance(now_s)
        if allowance <= 0:
            return
        now = self._clock.now()
        records = self._outbox.take(allowance)
        self._is_starved = not records  # what waits may lie on a disk that cannot be read now
        for record in records:
            payload = encode_record(
                record,
                device=self._device_id,
                now=now,
                connected=self._connected,
                interval_s=self._config.interval_s,
            )
            if len(payload) + 256 > self._connection.max_packet_bytes:
                self._outbox.discard([record.sequence])
                continue
            message_id = self._connection.send(self._topics.record(record.kind), payload)
            if message_id is None:
                return
            self._in_flight[message_id] = (record.sequence, now_s)
            self._pace.sent(1)

    # ---------------------------------------------------------------------------------------------------- hearing

    def _hear_acknowledgements(self, now_s: float) -> None:
        delivered: list[int] = []
        while self._connection.acknowledgements:
            answer = self._connection.acknowledgements.popleft()
            sequence, _ = self._in_flight.pop(answer.message_id, (None, 0.0))
            if sequence is None:
                continue
            if self._is_taken(answer, now_s):
                delivered.append(sequence)
            else:
                self._hold(answer, now_s)
        if delivered:
            self._outbox.acknowledge(delivered)
            self.num_delivered += len(delivered)
            if not self._is_held:
                self._is_open = True
                self._probes.reset()
                self.detail = ""
        oldest_s = next(iter(self._in_flight.values()), (0, now_s))[1]
        self.is_overdue = now_s - oldest_s > ACKNOWLEDGE_S

    def _is_taken(self, answer: Acknowledgement, now_s: float) -> bool:
        in_grace = now_s < self._began_s + self._config.pace.subscriber_grace_s
        return not answer.is_refused and (answer.had_subscriber or not in_grace)

    def _hold(self, answer: Acknowledgement, now_s: float) -> None:
        """Send nothing for a while; what is in flight is answered first, then taken again."""
        self._is_open = False
        if not self._is_held:
            self._is_held = True
            self._held_until_s = now_s + self._probes.pause_s()
        if answer.is_refused:
            self.detail = f"the broker refuses the records: {answer.reason}"
        else:
            self.detail = "nobody subscribes to the records yet"

    def _hear(self, message: Message, now_s: float) -> None:
        if message.topic == self._topics.home_assistant_status:
            if message.payload == ONLINE and not message.is_retained:
                jitter = random.random()  # noqa: S311 - so that not all devices answer in the same instant
                self.announce_at(now_s + jitter)
            return
        command = None
        if message.topic == self._topics.command and not message.is_retained:
            command = parse_command(message.payload)
        if command is None:
            self.num_ignored += 1
        elif command.command == "announce":
            self.announce_at(now_s + _ANNOUNCE_GAP_S)
        else:
            self.wants_report = True
