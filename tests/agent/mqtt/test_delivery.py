"""Nothing lost, nothing twice: the outbox and the publisher against a mosquitto that dies, restarts, refuses."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgekit.agent.mqtt.config import PaceConfig
from mqtt_broker import (
    Broker,
    SteppedClock,
    Subscriber,
    free_port,
    make_config,
    make_status,
    needs_mosquitto,
    notes,
    offer_notes,
    running,
    unique,
    wait_for_deliveries,
    wait_until,
)

_LOG = logging.getLogger(__name__)  # pytest --log-cli-level=INFO shows what was counted and measured

pytestmark = needs_mosquitto


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


def test_nothing_is_lost_and_the_order_stays_when_the_broker_is_killed_mid_stream(tmp_path: Path, start: Any) -> None:
    # With QoS 0 for the listener the broker passes everything on before it acknowledges it. With QoS 1, what it still
    # holds back, and what lies in the socket of a listener that cannot answer, dies with it: no publisher can help it.
    broker = Broker(tmp_path / "broker", "set_tcp_nodelay true")
    with running(broker):
        subscriber = Subscriber(broker.port, qos=0)
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


def test_records_are_sent_again_when_the_broker_is_frozen_and_thaws(
    broker: Broker, subscriber: Subscriber, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.agent.mqtt.session.ACKNOWLEDGE_S", 0.5)
    publisher = start(make_config(broker.port, tmp_path / "outbox.sqlite3"))
    offer_notes(publisher, 5)
    wait_for_deliveries(publisher, 5)
    broker.signal(signal.SIGSTOP)
    offer_notes(publisher, 30, first=5)
    wait_until(lambda: "does not acknowledge" in publisher.status().detail, "it is said")
    broker.signal(signal.SIGCONT)
    wait_for_deliveries(publisher, 35)
    wait_until(lambda: len(unique(subscriber.records)) == 35, "all received")
    assert notes(unique(subscriber.records)) == list(range(35))
