"""From one connection to the next: dialling, the session over each, pauses with jitter in between, for ever."""

from __future__ import annotations

import contextlib
import logging
import select
import selectors
import socket
import time
from collections.abc import Callable

import msgspec

from edgekit.agent.mqtt.connection import Connection
from edgekit.agent.mqtt.discovery import DiscoveryMessage, discovery_messages
from edgekit.agent.mqtt.outbox import Outbox
from edgekit.agent.mqtt.pacing import Backoff
from edgekit.agent.mqtt.reporting import make_state
from edgekit.agent.mqtt.session import Session, Station
from edgekit.core.device_status import DeviceStatus, MqttState
from edgekit.core.environment import installed_version

_LOG = logging.getLogger(__name__)

FIRST_VERSION_IS_5 = True
"""Of MQTT; 3.1.1 when the broker refuses it."""

_TURN_S = 1.0
_ANSWER_S = 15.0
_SETTLED_S = 30.0
_SHORT_S = 5.0
_GOODBYE_S = 0.3


class Waker:
    """Ends the waiting of one thread from any other."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def wake(self) -> None:
        """End the waiting that is, or the next."""
        with contextlib.suppress(OSError):  # full: it is awake anyway; closed: it has ended
            self._writer.send(b"\0")

    def wait(self, sock: socket.socket | None, timeout_s: float, *, wants_write: bool) -> int:
        """Until `wake`, the time, or a socket that can be read (or written): then which, as `selectors.EVENT_*`."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if sock is not None:
            poll.register(sock, select.POLLIN | (select.POLLOUT if wants_write else 0))
        happened = dict(poll.poll(timeout_s * 1000))
        if self._reader.fileno() in happened:
            with contextlib.suppress(OSError):
                self._reader.recv(4096)
        seen = 0 if sock is None else happened.get(sock.fileno(), 0)
        readable = selectors.EVENT_READ if seen & ~select.POLLOUT else 0
        return readable | (selectors.EVENT_WRITE if seen & select.POLLOUT else 0)

    def close(self) -> None:
        """Wait no more."""
        self._reader.close()
        self._writer.close()


class Link:
    """The way to the broker, up or down. One thread calls everything.

    Args:
        station: Who speaks.
        outbox: Whose records are sent.
        waker: Ends the waiting of that thread.
    """

    def __init__(self, station: Station, outbox: Outbox, waker: Waker) -> None:
        self._station = station
        self._outbox = outbox
        self._waker = waker
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._backoff = Backoff(station.config.retry_min_s, station.config.retry_max_s)
        self._is_version_5 = FIRST_VERSION_IS_5
        self._dialled_at_s = 0.0
        self._accepted_at_s = 0.0
        self._retry_at_s = 0.0
        self._num_short = 0
        self._failure = ""
        self._latest: DeviceStatus | None = None
        self._announced_board: str | None = None
        self._num_delivered = 0
        self._num_ignored = 0
        self.wants_report = False

    @property
    def state(self) -> MqttState:
        """Of the connection."""
        if self._session is not None:
            return "connected"
        return "offline" if self._failure else "connecting"

    @property
    def detail(self) -> str:
        """Why it is so; "" when all is well."""
        return self._failure if self._session is None else self._session.detail

    @property
    def num_delivered(self) -> int:
        """Records that brokers have acknowledged."""
        return self._num_delivered + (0 if self._session is None else self._session.num_delivered)

    @property
    def num_ignored(self) -> int:
        """Messages that were no command."""
        return self._num_ignored + (0 if self._session is None else self._session.num_ignored)

    def tell(self, latest: DeviceStatus | None, *, is_changed: bool, now_s: float) -> None:
        """How the device is; whether that is worth a message."""
        self._latest = latest
        if self._session is None or latest is None:
            return
        if latest.system.board != self._announced_board:
            self._session.announce_at(now_s)
        if is_changed:
            self._session.tell_state(msgspec.json.encode(make_state(latest)))

    def move(self, now_s: float) -> None:
        """Take the connection, or the way to one, a step further."""
        connection = self._connection
        if connection is None:
            if now_s >= self._retry_at_s:
                self._dial(now_s)
            return
        connection.poll()
        if self._session is None:
            if connection.is_accepted and connection.ended is None:
                self._begin(connection, now_s)
            elif connection.socket is not None and now_s > self._dialled_at_s + _ANSWER_S:
                connection.end("the broker does not answer; is it one?")
        if self._session is not None:
            self._session.step(now_s)
            self.wants_report = self.wants_report or self._session.wants_report
            self._session.wants_report = False
            if self._session.is_overdue:
                connection.end("the broker does not acknowledge what it gets")
        if connection.ended is not None:
            self._on_ended(connection, now_s)

    def wait(self, now_s: float) -> None:
        """Until the network, another thread, or the time has something to do; then read and write."""
        if self._session is not None:
            pause_s = self._session.wait_s(now_s)
        elif self._connection is None:
            pause_s = self._retry_at_s - now_s
        else:
            pause_s = _TURN_S
        self._wait(min(_TURN_S, max(0.0, pause_s)))

    def close(self) -> None:
        """Give what is in flight a moment, so that it is not sent again; say that the device leaves; hang up."""
        if self._session is not None and self._connection is not None:
            session, connection = self._session, self._connection
            session.close()
            self._serve_until(lambda: session.num_in_flight == 0, session, connection)
            session.part()
            self._serve_until(lambda: connection.is_idle, session, connection)
        self._hang_up(politely=True)

    def _dial(self, now_s: float) -> None:
        self._dialled_at_s = now_s
        station = self._station
        self._connection = Connection(
            station.config,
            station.device_id,
            station.topics,
            wake=self._waker.wake,
            is_version_5=self._is_version_5,
        )
        self._connection.start()

    def _begin(self, connection: Connection, now_s: float) -> None:
        self._accepted_at_s = now_s
        self._failure = ""
        self._session = Session(connection, self._outbox, self._station, announcement=self._announcement, now_s=now_s)
        self.tell(self._latest, is_changed=True, now_s=now_s)

    def _announcement(self) -> list[DiscoveryMessage]:
        if self._latest is None:
            return []  # with the first snapshot it will be known what there is
        self._announced_board = self._latest.system.board
        return discovery_messages(
            self._station.topics,
            device_id=self._station.device_id,
            board=self._announced_board,
            version=installed_version("edgekit") or "unknown",
        )

    def _on_ended(self, connection: Connection, now_s: float) -> None:
        if self._session is not None and now_s > self._accepted_at_s + _SETTLED_S:
            self._backoff.reset()
        failure = connection.ended or ""
        was_short = self._session is not None and now_s < self._accepted_at_s + _SHORT_S
        self._num_short = self._num_short + 1 if was_short else 0
        if self._num_short >= 3:
            failure += f", {self._num_short} times in a row; is there another edgekit-{self._station.device_id}?"
        if failure != self._failure and self._num_short < 4:
            _LOG.warning("mqtt: %s", failure)
        self._failure = failure
        self._hang_up(politely=False)
        self._outbox.release()
        self._announced_board = None
        if connection.refuses_version_5:
            self._is_version_5 = False
            self._retry_at_s = now_s
        else:
            self._retry_at_s = now_s + self._backoff.pause_s()

    def _hang_up(self, *, politely: bool) -> None:
        if self._session is not None:
            self._num_delivered += self._session.num_delivered
            self._num_ignored += self._session.num_ignored
            self._session = None
        if self._connection is not None:
            self._connection.close(politely=politely)
            self._connection = None

    def _serve_until(self, is_done: Callable[[], bool], session: Session, connection: Connection) -> None:
        end_s = time.monotonic() + _GOODBYE_S
        while not is_done() and connection.ended is None and (left_s := end_s - time.monotonic()) > 0:
            self._wait(left_s)
            session.step(time.monotonic())

    def _wait(self, timeout_s: float) -> None:
        connection = self._connection
        if connection is None:
            self._waker.wait(None, timeout_s, wants_write=False)
            return
        sock = connection.socket
        events = self._waker.wait(sock, timeout_s, wants_write=connection.wants_write)
        if sock is not None:
            connection.serve(events)
