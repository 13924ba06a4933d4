"""The publisher against a real mosquitto."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from edgekit.agent.mqtt.config import TlsConfig
from mqtt_broker import (
    Broker,
    Secure,
    SteppedClock,
    Subscriber,
    free_port,
    make_config,
    make_status,
    needs_mosquitto,
    notes,
    offer_notes,
    running,
    wait_until,
)

pytestmark = needs_mosquitto


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


def test_detail_suspects_a_second_device_of_the_same_name_when_connections_end_at_once(
    broker: Broker, start: Any, tmp_path: Path
) -> None:
    publisher = start(make_config(broker.port, tmp_path / "outbox.sqlite3"))
    rival = start(make_config(broker.port, tmp_path / "rival.sqlite3"))
    suspicion = "is there another edgekit-cam-1?"
    wait_until(lambda: suspicion in publisher.status().detail or suspicion in rival.status().detail, "it is said")


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
            path = secure.other_ca_path if value == "other" else tmp_path / str(value)
            settings["tls"] = TlsConfig(ca_file=str(path))
        elif name == "password_file":
            settings[name] = str(tmp_path / str(value))
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


def test_detail_says_that_the_broker_is_silent_when_it_never_answers(
    tmp_path: Path, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.agent.mqtt.link._ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        publisher = start(make_config(server.getsockname()[1], tmp_path / "outbox.sqlite3"))
        wait_until(lambda: "does not answer" in publisher.status().detail, "it is said")
        publisher.stop()
