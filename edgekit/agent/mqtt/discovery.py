"""What Home Assistant is told, so that the device appears there by itself.

One retained message for each entity, as https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery describes it.
Every entity reads the same JSON object on the state topic; `null` there becomes "None", which Home Assistant shows as
unknown.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import msgspec

from edgekit.agent.mqtt.topics import Topics
from edgekit.core.device_status import AgentState, CameraState

Component: TypeAlias = Literal["sensor", "binary_sensor"]

PROJECT = "edgekit"


class HomeAssistantDevice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The `device` block: entities with the same identifiers are one device. Words are Home Assistant's."""

    identifiers: tuple[str, ...]
    name: str
    manufacturer: str | None = None
    model: str | None = None
    sw_version: str | None = None


class HomeAssistantOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """The `origin` block: who tells. Words are Home Assistant's."""

    name: str
    sw_version: str


class HomeAssistantEntity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entity. Words are Home Assistant's; what is None is left out."""

    name: str
    unique_id: str
    state_topic: str
    value_template: str
    availability_topic: str
    device: HomeAssistantDevice
    origin: HomeAssistantOrigin
    qos: int = 0
    device_class: str | None = None
    unit_of_measurement: str | None = None
    state_class: str | None = None
    entity_category: str | None = None
    options: tuple[str, ...] | None = None
    suggested_display_precision: int | None = None
    icon: str | None = None


class DiscoveryMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message to Home Assistant, retained.

    Args:
        topic: Where.
        payload: JSON, UTF-8.
    """

    topic: str
    payload: bytes


class _Entity(msgspec.Struct, frozen=True, kw_only=True):
    """What an entity says of itself; `value` is an expression over `value_json`."""

    key: str
    name: str
    value: str
    component: Component = "sensor"
    device_class: str | None = None
    unit: str | None = None
    precision: int | None = None
    options: tuple[str, ...] | None = None
    is_diagnostic: bool = True
    icon: str | None = None

    @property
    def is_measured(self) -> bool:
        """Whether Home Assistant may keep statistics of it."""
        return self.unit is not None


_ENTITIES = (
    _Entity(key="label", name="Label", value="value_json.label", is_diagnostic=False, icon="mdi:eye"),
    _Entity(
        key="confidence",
        name="Confidence",
        value="value_json.confidence_percent",
        unit="%",
        precision=1,
        is_diagnostic=False,
    ),
    _Entity(
        key="latency_p50",
        name="Latency p50",
        value="value_json.latency_p50_ms",
        device_class="duration",
        unit="ms",
        precision=1,
    ),
    _Entity(
        key="latency_p90",
        name="Latency p90",
        value="value_json.latency_p90_ms",
        device_class="duration",
        unit="ms",
        precision=1,
    ),
    _Entity(key="fps", name="Answers per second", value="value_json.fps_out", unit="fps", precision=1),
    _Entity(
        key="temperature",
        name="Temperature",
        value="value_json.temperature_c",
        device_class="temperature",
        unit="°C",
        precision=1,
    ),
    _Entity(key="model_size", name="Model size", value="value_json.model_bytes", device_class="data_size", unit="B"),
    _Entity(
        key="camera_state",
        name="Camera state",
        value="value_json.camera_state",
        device_class="enum",
        options=get_args(CameraState),
    ),
    _Entity(
        key="agent_state",
        name="Agent state",
        value="value_json.state",
        device_class="enum",
        options=get_args(AgentState),
    ),
    _Entity(
        key="camera_lost",
        name="Camera lost",
        value="'ON' if value_json.camera_state in ('lost', 'frozen') else 'OFF'",
        component="binary_sensor",
        device_class="problem",
    ),
    _Entity(
        key="throttled",
        name="Throttled",
        value="none if value_json.throttled is none else ('ON' if value_json.throttled else 'OFF')",
        component="binary_sensor",
        device_class="problem",
    ),
    _Entity(
        key="drift",
        name="Drift",
        value="none if value_json.drift is none else ('ON' if value_json.drift else 'OFF')",
        component="binary_sensor",
        device_class="problem",
    ),
)


def discovery_messages(topics: Topics, *, device_id: str, board: str | None, version: str) -> list[DiscoveryMessage]:
    """The messages that make a device appear in Home Assistant.

    Args:
        topics: Of the device.
        device_id: Its name.
        board: Board id; None while it is not known.
        version: Of edgekit.
    """
    device = HomeAssistantDevice(
        identifiers=(topics.node_id,), name=device_id, manufacturer=PROJECT, model=board, sw_version=version
    )
    origin = HomeAssistantOrigin(name=PROJECT, sw_version=version)
    messages: list[DiscoveryMessage] = []
    for entity in _ENTITIES:
        described = HomeAssistantEntity(
            name=entity.name,
            unique_id=f"{topics.node_id}_{entity.key}",
            state_topic=topics.state,
            value_template="{{ " + entity.value + " }}",
            availability_topic=topics.availability,
            device=device,
            origin=origin,
            qos=1,
            device_class=entity.device_class,
            unit_of_measurement=entity.unit,
            state_class="measurement" if entity.is_measured else None,
            entity_category="diagnostic" if entity.is_diagnostic else None,
            options=entity.options,
            suggested_display_precision=entity.precision,
            icon=entity.icon,
        )
        messages.append(
            DiscoveryMessage(
                topic=topics.discovery(entity.component, entity.key), payload=msgspec.json.encode(described)
            )
        )
    return messages
