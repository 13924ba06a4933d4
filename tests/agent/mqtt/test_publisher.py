"""The publisher against a real mosquitto."""

from __future__ import annotations

import json
import logging
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgekit.agent.mqtt.config import MqttConfig, PaceConfig, TlsConfig
from edgekit.agent.mqtt.publisher import MqttPublisher
from mqtt_broker import (
    Broker,
    Secure,
    SteppedClock,
    Subscriber,
    free_port,
    make_config,
    make_status,
    needs_mosquitto,
    running,
    wait_until,
)

_LOG = logging.getLogger(__name__)  # pytest --log-cli-level=INFO shows what was counted and measured

pytestmark = needs_mosquitto


class Note(msgspec.Struct, frozen=True):
    """Something to tell in an event."""

    number: int


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running(Broker(tmp_path / "broker")) as broker:
        yield broker


@pytest.fixture
def subscriber(broker: Broker) -> Iterator[Subscriber]:
    subscriber = Subscriber(broker.port)
    yield subscriber
    subscriber.close()


@pytest.fixture
def made() -> Iterator[list[MqttPublisher]]:
    """Publishers that are stopped whatever happens."""
    publishers: list[MqttPublisher] = []
    yield publishers
    for publisher in publishers:
        publisher.stop()


@pytest.fixture
def start(made: list[MqttPublisher]) -> Any:
    def start_publisher(config: MqttConfig, **more: Any) -> MqttPublisher:
        publisher = MqttPublisher(config, "cam-1", **more)
        made.append(publisher)
        publisher.start()
        return publisher

    return start_publisher


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


def test_status_arrives_with_its_number_when_offered(
    broker: Broker, subscriber: Subscriber, start: Any, tmp_path: Path
) -> None:
    publisher = start(make_config(broker.port, tmp_path / "outbox.sqlite3"))
    wait_until(lambda: publisher.status().state == "connected", "connected")
    publisher.offer(make_status())
    wait_until(lambda: subscriber.num_records >= 4, "agent, camera, label and status")
    records = subscriber.records
    assert [record["kind"] for record in records] == ["event", "event", "prediction", "status"]
    assert [record["sequence"] - records[0]["sequence"] for record in records] == [0, 1, 2, 3]
    assert all(record["device"] == "cam-1" and record["historical"] is False for record in records)
    assert records[2]["payload"]["label"] == "cat"
    assert records[3]["payload"]["camera_state"] == "streaming"
    wait_until(lambda: publisher.status().num_pending == 0, "nothing waits")
    assert publisher.status().num_delivered == 4
    assert publisher.status().detail == ""


KILLED = """
import sys, time
from edgekit.agent.mqtt.config import MqttConfig
from edgekit.agent.mqtt.publisher import MqttPublisher

publisher = MqttPublisher(MqttConfig(host="127.0.0.1", port=int(sys.argv[1]), outbox_path=sys.argv[2]), "cam-1")
publisher.start()
for number in range(int(sys.argv[3])):
    publisher.offer_event(f"note {number}")
print(publisher.flush(30), flush=True)
time.sleep(600)
"""


def test_nothing_that_was_stored_is_lost_and_the_broker_says_offline_when_the_process_is_killed(
    broker: Broker, subscriber: Subscriber, start: Any, tmp_path: Path
) -> None:
    path = tmp_path / "outbox.sqlite3"
    for port in (free_port(), broker.port):  # without a broker, then with one
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(port), str(path), "200"], stdout=subprocess.PIPE, text=True
        ) as device:
            assert device.stdout is not None
            assert device.stdout.readline() == "True\n"
            if port == broker.port:
                wait_until(lambda: subscriber.last("edgekit/cam-1/availability") == b"online", "online")
            device.kill()
    wait_until(lambda: subscriber.last("edgekit/cam-1/availability") == b"offline", "the last will")
    publisher = start(make_config(broker.port, path))
    wait_until(lambda: publisher.status().num_pending == 0, "all delivered")
    wait_until(lambda: len({record["sequence"] for record in subscriber.records}) == 400, "all received")
    assert subscriber.last("edgekit/cam-1/availability") == b"online"


def test_detail_suspects_a_second_device_of_the_same_name_when_connections_end_at_once(
    broker: Broker, start: Any, tmp_path: Path
) -> None:
    publisher = start(make_config(broker.port, tmp_path / "outbox.sqlite3"))
    rival = start(make_config(broker.port, tmp_path / "rival.sqlite3"))
    suspicion = "is there another edgekit-cam-1?"
    wait_until(lambda: suspicion in publisher.status().detail or suspicion in rival.status().detail, "it is said")


def test_stop_says_offline_and_keeps_what_waits_when_the_broker_is_away(tmp_path: Path, start: Any) -> None:
    config = make_config(free_port(), tmp_path / "outbox.sqlite3")
    publisher = start(config)
    offer_notes(publisher, 50)
    publisher.stop()
    assert publisher.status().state == "off"
    broker = Broker(tmp_path / "broker", port=config.port)
    with running(broker):
        subscriber = Subscriber(broker.port)
        again = start(config)
        wait_until(lambda: again.status().num_delivered == 50, "all delivered")
        again.stop()
        wait_until(lambda: subscriber.last("edgekit/cam-1/availability") == b"offline", "offline")
        subscriber.close()
    assert notes(subscriber.records) == list(range(50))
    assert all(record["historical"] for record in subscriber.records)


def test_records_arrive_over_tls_with_password_and_client_certificate(tmp_path: Path, start: Any) -> None:
    secure = Secure(tmp_path / "secrets")
    broker = Broker(tmp_path / "broker", *secure.lines(), "require_certificate true")
    with running(broker):
        subscriber = Subscriber(broker.port, secure=secure)
        tls = TlsConfig(
            ca_file=str(secure.ca_path),
            cert_file=str(secure.device_cert_path),
            key_file=str(secure.device_cert_path.with_suffix(".key")),
        )
        publisher = start(
            make_config(
                broker.port,
                tmp_path / "outbox.sqlite3",
                host="localhost",
                tls=tls,
                username=secure.username,
                password_file=str(secure.password_path),
            )
        )
        offer_notes(publisher, 500)
        wait_until(lambda: publisher.status().num_delivered == 500, "all delivered")
        wait_until(lambda: subscriber.num_records == 500, "all received")
        subscriber.close()
        publisher.stop()
    assert notes(subscriber.records) == list(range(500))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"password_file": "wrong"}, "user name or the password|does not let this user in"),
        ({"password_file": "nowhere"}, "the password file .*nowhere: No such file"),
        ({"tls": "other"}, "TLS: the certificate of localhost:.* is not trusted"),
        ({"tls": "nowhere"}, "the CA file .*nowhere"),
        ({"tls": None}, "does it expect TLS"),
        ({"host": "no-such-host.invalid"}, "the name no-such-host.invalid cannot be resolved"),
        ({"port": "free"}, "refuses connections"),
    ],
)
def test_detail_says_what_is_wrong_when_there_is_no_connection(
    changes: dict[str, Any], expected: str, tmp_path: Path, start: Any
) -> None:
    secure = Secure(tmp_path / "secrets")
    (tmp_path / "wrong").write_text("guess\n", encoding="utf-8")
    settings: dict[str, Any] = {
        "host": "localhost",
        "tls": TlsConfig(ca_file=str(secure.ca_path)),
        "username": secure.username,
        "password_file": str(secure.password_path),
    }
    for name, value in changes.items():
        if name == "tls" and value is not None:
            path = secure.other_ca_path if value == "other" else tmp_path / value
            settings["tls"] = TlsConfig(ca_file=str(path))
        elif name == "password_file":
            settings[name] = str(tmp_path / value)
        else:
            settings[name] = free_port() if value == "free" else value
    with running(Broker(tmp_path / "broker", *secure.lines())) as broker:
        config = make_config(settings.pop("port", broker.port), tmp_path / "outbox.sqlite3", **settings)
        publisher = start(config)
        wait_until(lambda: publisher.status().state == "offline", "a failure")
        detail = publisher.status().detail
        publisher.offer_event("still alive")
        assert publisher.flush(10)
        publisher.stop()
    assert re.search(expected, detail), detail
    assert secure.password not in detail


def test_password_comes_from_the_environment_when_there_is_no_file(
    tmp_path: Path, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure = Secure(tmp_path / "secrets")
    monkeypatch.setenv("EDGEKIT_MQTT_PASSWORD", secure.password)
    with running(Broker(tmp_path / "broker", *secure.lines())) as broker:
        tls = TlsConfig(ca_file=str(secure.ca_path))
        config = make_config(
            broker.port, tmp_path / "outbox.sqlite3", host="localhost", tls=tls, username=secure.username
        )
        publisher = start(config)
        wait_until(lambda: publisher.status().state == "connected", "connected")
        publisher.stop()


def test_nothing_is_lost_and_the_order_stays_when_the_broker_is_killed_mid_stream(tmp_path: Path, start: Any) -> None:
    # Without a window the broker passes everything on at once. With one, what it has acknowledged and still holds back
    # dies with it, and no publisher can help that.
    broker = Broker(tmp_path / "broker", "max_inflight_messages 0")
    with running(broker):
        subscriber = Subscriber(broker.port)
        publisher = start(make_config(broker.port, tmp_path / "outbox.sqlite3", pace=PaceConfig(records_per_s=2000)))
        num_offered = 0
        for _ in range(3):
            offer_notes(publisher, 400, first=num_offered)
            num_offered += 400
            wait_for_deliveries(publisher, num_offered - 300)
            broker.kill()
            wait_until(lambda: publisher.status().state == "offline", "the loss is seen")
            offer_notes(publisher, 10, first=num_offered)
            num_offered += 10
            broker.start()
        wait_until(lambda: publisher.status().num_pending == 0, "all delivered", 90)
        wait_until(lambda: len(unique(subscriber.records)) == num_offered, "all received")
        subscriber.close()
        publisher.stop()
    records = subscriber.records
    _LOG.info("num_copies %s", len(records) - num_offered)  # sent again, as their acknowledgement died
    assert notes(unique(records)) == list(range(num_offered))
    assert len(records) - num_offered <= 3 * 20
    assert publisher.status().num_dropped == 0


def test_nothing_is_lost_and_nothing_comes_twice_when_the_broker_is_restarted_cleanly(
    tmp_path: Path, start: Any
) -> None:
    broker = Broker(tmp_path / "broker", "persistence true", f"persistence_location {tmp_path}/broker/")
    with running(broker):
        subscriber = Subscriber(broker.port)
        publisher = start(make_config(broker.port, tmp_path / "outbox.sqlite3"))
        for turn in range(3):
            offer_notes(publisher, 200, first=turn * 200)
            wait_for_deliveries(publisher, turn * 200 + 50)
            broker.stop()
            wait_until(lambda: publisher.status().state == "offline", "the loss is seen")
            broker.start()
        wait_until(lambda: publisher.status().num_pending == 0, "all delivered", 90)
        wait_until(lambda: len(unique(subscriber.records)) == 600, "all received")
        subscriber.close()
        publisher.stop()
    records = subscriber.records
    _LOG.info("num_copies %s", len(records) - 600)
    assert notes(unique(records)) == list(range(600))
    assert any(record["historical"] for record in records)


@pytest.mark.slow
def test_seven_days_offline_are_delivered_whole_in_order_and_once_at_mosquitto_default_limits(
    broker: Broker, tmp_path: Path, start: Any
) -> None:
    clock = SteppedClock()
    path = tmp_path / "outbox.sqlite3"
    away = start(make_config(free_port(), path), clock=clock)
    num_offered = 0
    for tick in range(7 * 24 * 360):
        status = make_status(time_unix_s=clock.unix_s, label=("cat", "dog")[tick % 360 == 0])
        away.offer(status)
        num_offered += 1 + (tick % 360 in {0, 1}) + 2 * (tick == 0)
        clock.advance(10.0)
        if tick % 1000 == 999:
            assert away.flush(60)
    assert away.flush(60)
    assert away.status().num_pending == num_offered >= 60_000
    assert away.status().num_dropped == 0
    _LOG.info("outbox_bytes %s", path.stat().st_size)
    away.stop()
    subscriber = Subscriber(broker.port)
    fast = PaceConfig(records_per_s=3000, first_s=0.0)
    started_s = time.monotonic()
    back = start(make_config(broker.port, path, pace=fast), clock=clock)
    wait_until(lambda: back.status().num_delivered == num_offered, "all delivered", 250)
    _LOG.info("records_per_s %s", num_offered / (time.monotonic() - started_s))
    wait_until(lambda: subscriber.num_records == num_offered, "all received")
    subscriber.close()
    sequences = [record["sequence"] for record in subscriber.records]
    assert sequences == list(range(sequences[0], sequences[0] + num_offered))
    assert all(record["historical"] for record in subscriber.records)
    assert back.status().num_pending == 0


def test_home_assistant_is_told_again_when_it_says_online(
    broker: Broker, subscriber: Subscriber, start: Any, tmp_path: Path
) -> None:
    publisher = start(make_config(broker.port, tmp_path / "outbox.sqlite3"))
    publisher.offer(make_status())

    def count() -> int:
        return sum(topic.endswith("/config") for topic, _, _ in subscriber.messages)

    wait_until(lambda: count() == 12, "twelve entities")
    subscriber.publish("homeassistant/status", b"online")
    wait_until(lambda: count() == 24, "twelve entities again")
    late = Subscriber(broker.port, "homeassistant/#", name="late")
    wait_until(lambda: len(late.messages) == 12, "they are retained")
    assert all(is_retained for _, _, is_retained in late.messages)
    late.close()


@pytest.mark.parametrize("is_version_5", [True, False])
def test_hostile_messages_are_ignored_and_counted(
    is_version_5: bool,
    broker: Broker,
    subscriber: Subscriber,
    start: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgekit.agent.mqtt.link.FIRST_VERSION_IS_5", is_version_5)
    publisher = start(make_config(broker.port, tmp_path / "outbox.sqlite3"))
    publisher.offer(make_status())
    wait_until(lambda: publisher.status().num_delivered == 4, "connected, and the first report is out")
    hostile = [
        b"[" * 10_000,
        b'{"command": ' * 80 + b"1" + b"}" * 80,
        b'{"command": NaN}',
        b'{"command": "report", "more": 1}',
        b'{"command": 5}',
        b'"report"',
        b"\xff\xfe\x00",
        b"",
        b'{"command": "' + b"\xff" + b'"}',
    ]
    for payload in hostile:
        subscriber.publish("edgekit/cam-1/command", payload)
    too_long = [(b"x" * 10_000_000, 0), (b'{"a":' * 2_000_000, 1)]
    for payload, qos in too_long:
        subscriber.publish("edgekit/cam-1/command", payload, qos=qos)
    subscriber.publish("edgekit/cam-1/command", b'{"command": "report"}')
    wait_until(lambda: publisher.status().num_delivered == 5, "the command behind them is obeyed")
    # With MQTT 5 the broker is told not to pass on what is too long: the device does not even see it.
    assert publisher.status().num_ignored == len(hostile) + (0 if is_version_5 else len(too_long))
    assert publisher.status().state == "connected"


def test_records_wait_when_nobody_subscribes_right_after_connecting(broker: Broker, start: Any, tmp_path: Path) -> None:
    publisher = start(make_config(broker.port, tmp_path / "outbox.sqlite3"))
    offer_notes(publisher, 30)
    wait_until(lambda: "nobody subscribes" in publisher.status().detail, "it is said")
    assert publisher.status().num_delivered == 0
    subscriber = Subscriber(broker.port)
    wait_until(lambda: subscriber.num_records == 30, "all received")
    assert notes(subscriber.records) == list(range(30))
    subscriber.close()


def test_records_are_kept_when_the_broker_refuses_them(tmp_path: Path, start: Any) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite edgekit/cam-1/availability\ntopic readwrite homeassistant/#\n", encoding="utf-8")
    with running(Broker(tmp_path / "broker", f"acl_file {rules}")) as broker:
        publisher = start(make_config(broker.port, tmp_path / "outbox.sqlite3"))
        offer_notes(publisher, 3)
        wait_until(lambda: "refuses the records" in publisher.status().detail, "it is said")
        assert publisher.status().num_pending == 3
        assert publisher.status().state == "connected"
        publisher.stop()


def test_numbers_rise_over_restarts(broker: Broker, subscriber: Subscriber, start: Any, tmp_path: Path) -> None:
    config = make_config(broker.port, tmp_path / "outbox.sqlite3")
    for turn in range(3):
        publisher = start(config)
        offer_notes(publisher, 5, first=turn * 5)
        wait_until(lambda: publisher.status().num_delivered == 5, "delivered")  # noqa: B023
        publisher.stop()
    wait_until(lambda: subscriber.num_records == 15, "all received")
    sequences = [record["sequence"] for record in subscriber.records]
    assert sequences == list(range(sequences[0], sequences[0] + 15))


def test_a_broker_that_talks_nonsense_is_survived(tmp_path: Path, start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        publisher = start(make_config(server.getsockname()[1], tmp_path / "outbox.sqlite3"))
        for nonsense in (
            b"\xff" * 64,
            b"\x20\x03\x00\x00",
            b"\x30\xff\xff\xff\x7f",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ):
            peer, _ = server.accept()
            with peer:
                peer.recv(1024)
                peer.sendall(nonsense)
        wait_until(lambda: publisher.status().state == "offline", "a failure")
        offer_notes(publisher, 1)
        assert publisher.flush(10)
        publisher.stop()


def test_time_of_records_is_put_right_when_the_clock_jumps(
    broker: Broker, subscriber: Subscriber, start: Any, tmp_path: Path
) -> None:
    clock = SteppedClock(unix_s=0.0, boot_s=10.0)
    port = free_port()
    publisher = start(make_config(port, tmp_path / "outbox.sqlite3"), clock=clock)
    offer_notes(publisher, 1)
    clock.boot_s += 5
    clock.unix_s = 1_790_000_000.0  # the network has told the time
    offer_notes(publisher, 1, first=1)
    assert publisher.flush(10)
    publisher.stop()
    again = start(make_config(broker.port, tmp_path / "outbox.sqlite3"), clock=clock)
    wait_until(lambda: again.status().num_delivered == 2, "delivered")
    wait_until(lambda: subscriber.num_records == 2, "received")
    assert [record["time_unix_s"] for record in subscriber.records] == [1_789_999_995.0, 1_790_000_000.0]


def test_state_topic_holds_the_present_when_history_is_replayed(
    broker: Broker, subscriber: Subscriber, start: Any, tmp_path: Path
) -> None:
    clock = SteppedClock()
    path = tmp_path / "outbox.sqlite3"
    away = start(make_config(free_port(), path), clock=clock)
    for label in ("cat", "dog", "cup"):
        away.offer(make_status(label=label))
        clock.advance(10)
    away.stop()
    back = start(make_config(broker.port, path), clock=clock)
    back.offer(make_status(label="now"))
    wait_until(lambda: back.status().num_pending == 0 and back.status().num_delivered > 9, "history is out")
    wait_until(lambda: subscriber.last("edgekit/cam-1/state") is not None, "a state")
    states = [json.loads(payload)["label"] for topic, payload, _ in subscriber.messages if topic.endswith("/state")]
    assert set(states) == {"now"}
