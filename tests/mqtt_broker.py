"""A real mosquitto and a subscriber, for the tests of MQTT; and snapshots to report."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.agent.mqtt.clock import Moment
from edgekit.agent.mqtt.config import MqttConfig
from edgekit.agent.mqtt.publisher import MqttPublisher
from edgekit.core.device_status import AnswerStatus, CameraStatus, DeviceStatus, DriftStatus, MqttStatus, SystemStatus

MOSQUITTO = next((path for path in map(Path, ("/usr/sbin/mosquitto", "/usr/bin/mosquitto")) if path.exists()), None)

needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto (apt install mosquitto)")

DEADLINE_S = 30.0


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition; fail, saying what was waited for."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end_s:
            pytest.fail(f"not within {deadline_s:.0f} s: {what}")
        time.sleep(0.01)


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Broker:
    """A mosquitto of its own, in a folder of its own, on a port of its own; may be killed and started again."""

    def __init__(self, folder: Path, *lines: str, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port() if port is None else port
        self._config_path = folder / "mosquitto.conf"
        self.log_path = folder / "mosquitto.log"
        settings = ["user root", f"listener {self.port} 127.0.0.1", f"log_dest file {self.log_path}", "log_type all"]
        if not any(line.startswith("allow_anonymous") for line in lines):
            settings.append("allow_anonymous true")
        self._config_path.write_text("\n".join([*settings, *lines]) + "\n", encoding="utf-8")
        self._program: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it listens."""
        assert MOSQUITTO is not None
        program = subprocess.Popen(
            [str(MOSQUITTO), "-c", str(self._config_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._program = program
        wait_until(lambda: program.poll() is not None or self._listens(), "mosquitto listens")
        assert program.poll() is None, self.log_path.read_text(encoding="utf-8")

    def kill(self) -> None:
        """SIGKILL."""
        if self._program is not None:
            self._program.kill()
            self._program.wait()
            self._program = None

    def stop(self) -> None:
        """SIGTERM: it saves what it knows when it has persistence."""
        if self._program is not None:
            self._program.terminate()
            self._program.wait(DEADLINE_S)
            self._program = None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._program is not None
        self._program.send_signal(number)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


@contextmanager
def running(broker: Broker) -> Iterator[Broker]:
    """A broker that is ended whatever happens."""
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


class Subscriber:
    """Somebody who listens with a persistent session; comes back by itself when the broker does."""

    def __init__(
        self, port: int, topic: str = "#", *, name: str = "listener", secure: Secure | None = None, qos: int = 1
    ) -> None:
        self._topic = topic
        self._qos = qos
        self._lock = threading.Lock()
        self._messages: list[tuple[str, bytes, bool]] = []
        self._is_subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        if secure is not None:
            self._client.username_pw_set(secure.username, secure.password)
            self._client.tls_set_context(secure.context())
        self._client.connect("localhost" if secure is not None else "127.0.0.1", port, keepalive=30)
        self._client.loop_start()
        assert self._is_subscribed.wait(DEADLINE_S)

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe(self._topic, qos=self._qos)

    def _on_subscribe(self, *_: Any) -> None:
        self._is_subscribed.set()

    def _on_message(self, _client: object, _userdata: object, message: mqtt.MQTTMessage) -> None:
        with self._lock:
            self._messages.append((message.topic, bytes(message.payload), message.retain))

    def close(self) -> None:
        """Leave; the session stays with the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Say something, and wait until the broker has it."""
        self._client.publish(topic, payload, qos=qos, retain=retain).wait_for_publish(DEADLINE_S)

    @property
    def messages(self) -> list[tuple[str, bytes, bool]]:
        """All so far: topic, payload, retained."""
        with self._lock:
            return list(self._messages)

    @property
    def num_records(self) -> int:
        """Records so far, copies included."""
        with self._lock:
            return sum("/record/" in topic for topic, _, _ in self._messages)

    @property
    def records(self) -> list[dict[str, Any]]:
        """Records so far, decoded, copies included, as they came."""
        return [json.loads(payload) for topic, payload, _ in self.messages if "/record/" in topic]

    def last(self, topic: str) -> bytes | None:
        """The newest message on a topic."""
        return next((payload for heard, payload, _ in reversed(self.messages) if heard == topic), None)


class Secure:
    """A broker's certificates, and a user, made with openssl."""

    username = "kitchen"
    password = "a pass phrase with spaces: $%&"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.ca_path = folder / "ca.crt"
        self.other_ca_path = folder / "other.crt"
        self._make_ca("ca")
        self._make_ca("other")
        self._make_certificate("broker", "localhost")
        self._make_certificate("device", "cam-1")
        self.password_path = folder / "password"
        self.password_path.write_text(self.password + "\n", encoding="utf-8")
        users = folder / "users"
        users.touch(mode=0o600)
        subprocess.run(["mosquitto_passwd", "-b", str(users), self.username, self.password], check=True)

    def lines(self) -> tuple[str, ...]:
        """For mosquitto.conf."""
        folder = self._folder
        return (
            "allow_anonymous false",
            f"password_file {folder / 'users'}",
            f"cafile {self.ca_path}",
            f"certfile {folder / 'broker.crt'}",
            f"keyfile {folder / 'broker.key'}",
        )

    def context(self) -> ssl.SSLContext:
        """What a client needs."""
        context = ssl.create_default_context(cafile=self.ca_path)
        context.load_cert_chain(self._folder / "device.crt", self._folder / "device.key")
        return context

    @property
    def device_cert_path(self) -> Path:
        """Certificate of a client; its key lies beside it."""
        return self._folder / "device.crt"

    def _make_ca(self, name: str) -> None:
        folder = self._folder
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN=edgekit test {name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"),
            *("-addext", "keyUsage=critical,keyCertSign"),
        )

    def _make_certificate(self, name: str, host: str) -> None:
        folder = self._folder
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={host}"),
            *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr"),
        )
        (folder / "names").write_text(f"subjectAltName=DNS:{host}\n", encoding="utf-8")
        _openssl(
            *("x509", "-req", "-in", folder / f"{name}.csr", "-days", "2", "-CA", folder / "ca.crt"),
            *("-CAkey", folder / "ca.key", "-CAcreateserial", "-extfile", folder / "names"),
            *("-out", folder / f"{name}.crt"),
        )


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class SteppedClock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, unix_s: float = 1_790_000_000.0, boot_s: float = 100.0, boot_id: str = "b0071d00") -> None:
        self.unix_s = unix_s
        self.boot_s = boot_s
        self.boot_id = boot_id

    def now(self) -> Moment:
        """This moment."""
        return Moment(unix_s=self.unix_s, boot_s=self.boot_s, boot_id=self.boot_id)

    def advance(self, seconds: float) -> None:
        """Both clocks go on."""
        self.unix_s += seconds
        self.boot_s += seconds


def make_config(port: int, outbox_path: Path, **changes: Any) -> MqttConfig:
    """A broker on loopback, and short pauses."""
    settings: dict[str, Any] = {"host": "127.0.0.1", "retry_min_s": 0.1, "retry_max_s": 0.5, "label_hold_s": 0.0}
    return MqttConfig(port=port, outbox_path=str(outbox_path), **{**settings, **changes})


def make_status(
    *,
    time_unix_s: float = 1_790_000_000.0,
    label: str | None = "cat",
    camera: str = "streaming",
    state: str = "serving",
    flags: tuple[str, ...] = (),
) -> DeviceStatus:
    """A snapshot."""
    answer = None
    if label is not None:
        answer = AnswerStatus(label=label, confidence=0.87, top=((label, 0.87), ("dog", 0.1)), age_ms=41.0, sequence=7)
    return DeviceStatus(
        device_id="cam-1",
        time_unix_s=time_unix_s,
        uptime_s=12.5,
        state=state,  # type: ignore[arg-type]
        detail="",
        camera=CameraStatus(kind="synthetic", source="640x480@30", state=camera),  # type: ignore[arg-type]
        model=None,
        answer=answer,
        fps_out=14.9,
        num_answers=1234,
        recent=None,
        total=(),
        system=SystemStatus(
            board="raspberry_pi_4b", cpu_percent=31.5, rss_mib=101.0, temperature_c=55.0, throttle=None
        ),
        drift=DriftStatus(n=100, psi=0.01, mean_confidence=0.8, brightness=110.0, sharpness=300.0, flags=flags),
        mqtt=MqttStatus(),
    )


class Note(msgspec.Struct, frozen=True):
    """Something to tell in an event."""

    number: int


def offer_notes(publisher: MqttPublisher, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        publisher.offer_event("note", Note(number))


def notes(records: list[dict[str, Any]]) -> list[int]:
    return [record["payload"]["more"]["number"] for record in records if record["kind"] == "event"]


def unique(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a receiver keeps that drops what it has seen: by device and number, in the order of their coming."""
    kept: dict[tuple[str, int], dict[str, Any]] = {}
    for record in records:
        kept.setdefault((record["device"], record["sequence"]), record)
    return list(kept.values())


def wait_for_deliveries(publisher: MqttPublisher, count: int) -> None:
    wait_until(lambda: publisher.status().num_delivered >= count, f"{count} records are delivered")
