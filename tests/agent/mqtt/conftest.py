"""A broker, somebody who listens to it, and publishers that are stopped whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.agent.mqtt.config import MqttConfig
from edgekit.agent.mqtt.publisher import MqttPublisher
from mqtt_broker import Broker, Subscriber, running


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
