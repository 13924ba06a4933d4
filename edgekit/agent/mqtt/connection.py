"""One connection to the broker, from the first packet to the last. A new connection is a new object.

Name resolution, TCP and TLS may block for a long time, so a thread of their own does them; everything after that is
driven by the caller's thread, which never waits for the network longer than it wants to.
"""

from __future__ import annotations

import contextlib
import queue
import selectors
import struct
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from edgekit.agent.mqtt.config import MqttConfig
from edgekit.agent.mqtt.dialling import connect, make_client
from edgekit.agent.mqtt.failures import NO_ANSWER, ConnectError, explain_failure, explain_refusal
from edgekit.agent.mqtt.topics import Topics

if TYPE_CHECKING:
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

_NO_SUBSCRIBERS = 0x10  # MQTT 5.0, 3.4.2.1
_UNSUPPORTED_VERSION = 0x84  # MQTT 5.0, 3.2.2.2
_LOG_ERROR = 8  # paho.mqtt.client.MQTT_LOG_ERR
_BROKEN_PACKETS = (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error)


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """The broker has answered a message.

    Args:
        message_id: Of the message.
        is_refused: Whether it will not take it.
        had_subscriber: False when MQTT 5 tells that nobody got it.
        reason: Name of the reason code.
    """

    message_id: int
    is_refused: bool
    had_subscriber: bool
    reason: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message to this device.

    Args:
        topic: "" when it was no UTF-8.
        payload: Bytes.
        is_retained: Whether it was said before this device listened.
    """

    topic: str
    payload: bytes
    is_retained: bool


class Connection:
    """A connection, or an attempt at one. One thread calls everything.

    Args:
        config: Broker, TLS, user.
        device_id: Name of the client.
        topics: Of the device.
        wake: Called from the connecting thread when it has finished.
        is_version_5: MQTT 5; False: MQTT 3.1.1, for brokers that refuse 5.
    """

    def __init__(
        self, config: MqttConfig, device_id: str, topics: Topics, *, wake: Callable[[], None], is_version_5: bool
    ) -> None:
        self._config = config
        self._device_id = device_id
        self._topics = topics
        self._wake = wake
        self._is_version_5 = is_version_5
        self._dialled: queue.SimpleQueue[Client | ConnectError] = queue.SimpleQueue()
        self._given_up = threading.Event()
        self._client: Client | None = None
        self._last_error = ""
        self.acknowledgements: deque[Acknowledgement] = deque()
        self.messages: deque[Message] = deque()
        self.is_accepted = False
        self.ended: str | None = None
        self.refuses_version_5 = False
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._num_outstanding = 0
        self._max_outstanding = 65535
        self.max_packet_bytes = 2**28

    def start(self) -> None:
        """Begin to connect, in a thread of its own."""
        threading.Thread(target=self._dial, name="mqtt-dial", daemon=True).start()

    @property
    def socket(self) -> Any:  # noqa: ANN401 - a socket, or what TLS wraps it in
        """To wait on; None while there is none."""
        return None if self._client is None else self._client.socket()

    @property
    def wants_write(self) -> bool:
        """Whether there is something that the network did not take yet."""
        return self._client is not None and self._client.want_write()

    def poll(self) -> None:
        """Take over from the connecting thread, when it has finished."""
        if self._client is not None or self.ended is not None:
            return
        with contextlib.suppress(queue.Empty):
            dialled = self._dialled.get_nowait()
            if isinstance(dialled, ConnectError):
                self.end(str(dialled))
            else:
                self._client = dialled

    def serve(self, events: int) -> None:
        """Read, write and keep alive, as far as it goes without waiting."""
        client = self._client
        if client is None or self.ended is not None:
            return
        try:
            if events & selectors.EVENT_READ:
                client.loop_read()
                while (sock := client.socket()) is not None and getattr(sock, "pending", int)() > 0:
                    client.loop_read()  # TLS has decoded more than one packet: no event will tell of it
            if events & selectors.EVENT_WRITE or client.want_write():
                client.loop_write()
            client.loop_misc()
            self._send_waiting()
        except _BROKEN_PACKETS as error:  # paho trusts the broker to send what MQTT allows
            self.end(f"the broker sends what is no MQTT: {error}")
        if client.socket() is None:
            self._end_lost()

    def subscribe(self, topics: tuple[str, ...]) -> None:
        """Listen, QoS 1; what was retained there is not wanted."""
        if self._client is None:
            return
        from paho.mqtt.subscribeoptions import SubscribeOptions

        for topic in topics:
            if self._is_version_5:
                self._client.subscribe(topic, options=SubscribeOptions(qos=1, retainHandling=2))
            else:
                self._client.subscribe(topic, qos=1)

    @property
    def room(self) -> int:
        """How many messages the broker lets us send before it acknowledges one (MQTT 5.0, 3.2.2.3.3)."""
        return 0 if self.ended is not None else max(0, self._max_outstanding - self._num_outstanding)

    @property
    def is_idle(self) -> bool:
        """Whether everything was sent and acknowledged."""
        return not self._waiting and self._num_outstanding == 0

    def retain(self, topic: str, payload: bytes) -> None:
        """Send as soon as there is room, for the broker to keep; what still waits for the same topic is replaced."""
        self._waiting = deque(message for message in self._waiting if message[0] != topic)
        self._waiting.append((topic, payload))
        self._send_waiting()

    def send(self, topic: str, payload: bytes) -> int | None:
        """Send now. The message id, or None when the connection is gone."""
        return self._publish(topic, payload, retain=False)

    def _send_waiting(self) -> None:
        while self._waiting and self.room > 0:
            topic, payload = self._waiting.popleft()
            self._publish(topic, payload, retain=True)

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> int | None:
        if self._client is None or self.ended is not None:
            return None
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        if sent.rc != 0:
            self._end_lost()
            return None
        self._num_outstanding += 1
        return sent.mid

    def close(self, *, politely: bool) -> None:
        """End it. Politely: the broker keeps the last will to itself."""
        self._given_up.set()
        self.poll()
        client, self._client = self._client, None
        if client is None:
            return
        with contextlib.suppress(*_BROKEN_PACKETS):
            if politely and client.socket() is not None:
                client.disconnect()
                client.loop_write()
        _close_socket(client)

    def end(self, why: str) -> None:
        """Give up, and say why; the first reason counts."""
        if self.ended is None:
            self.ended = why

    def _end_lost(self) -> None:
        place = f"{self._config.host}:{self._config.broker_port}"
        if self.is_accepted:
            self.end(f"the connection to {place} was lost")
        else:
            because = f" ({self._last_error})" if self._last_error else ""
            self.end(f"{place} {NO_ANSWER}{because}")

    # ------------------------------------------------------------------------------------------ connecting thread

    def _dial(self) -> None:
        config = self._config
        try:
            client = make_client(config, self._device_id, self._topics, is_version_5=self._is_version_5)
        except (OSError, ValueError) as error:
            self._dialled.put(ConnectError(str(error)))
            self._wake()
            return
        client.on_log = self._on_log
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        # With this paho leaves writing to `serve`, which reads first: on a socket that the broker has closed, a write
        # would throw away acknowledgements that have already come.
        client.on_socket_register_write = _write_later
        try:
            connect(client, config, is_version_5=self._is_version_5)
        except _BROKEN_PACKETS as error:  # a name that is none is a UnicodeError, which is a ValueError
            _close_socket(client)
            self._dialled.put(ConnectError(explain_failure(error, config.host, config.broker_port)))
        else:
            self._dialled.put(client)
            if self._given_up.is_set():
                _close_socket(client)
        self._wake()

    # -------------------------------------------------------------------------------------------------- callbacks

    def _on_log(self, _client: Client, _userdata: object, level: int, text: str) -> None:
        if level == _LOG_ERROR:
            self._last_error = text

    def _on_connect(
        self,
        client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self.refuses_version_5 = self._is_version_5 and reason.value == _UNSUPPORTED_VERSION
            self.end(explain_refusal(str(reason), self._config.host, self._config.broker_port))
            return
        self.is_accepted = True
        client.on_log = None  # paho formats a line for each packet
        self._max_outstanding = getattr(properties, "ReceiveMaximum", self._max_outstanding)
        self.max_packet_bytes = getattr(properties, "MaximumPacketSize", self.max_packet_bytes)

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self.end(explain_refusal(str(reason), self._config.host, self._config.broker_port))

    def _on_publish(
        self, _client: Client, _userdata: object, mid: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        self._num_outstanding -= 1
        self.acknowledgements.append(
            Acknowledgement(
                message_id=mid,
                is_refused=reason.is_failure,
                had_subscriber=reason.value != _NO_SUBSCRIBERS,
                reason=str(reason),
            )
        )

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        self.messages.append(Message(topic=topic, payload=bytes(message.payload), is_retained=message.retain))


def _write_later(_client: Client, _userdata: object, _sock: object) -> None:
    """`wants_write` is asked before each wait."""


def _close_socket(client: Client) -> None:
    sock = client.socket()
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.close()
