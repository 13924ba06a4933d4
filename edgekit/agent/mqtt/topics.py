"""The topics of one device."""

from __future__ import annotations

import re

import msgspec

from edgekit.agent.mqtt.config import MqttConfig
from edgekit.agent.mqtt.records import RecordKind

ONLINE = b"online"
OFFLINE = b"offline"

_NOT_IN_NODE_ID = re.compile(r"[^A-Za-z0-9_-]")


class Topics(msgspec.Struct, frozen=True, kw_only=True):
    """Where one device publishes and listens.

    Args:
        root: `<base_topic>/<device>`.
        node_id: The device in Home Assistant's topics.
        discovery_prefix: Where Home Assistant listens.
    """

    root: str
    node_id: str
    discovery_prefix: str

    @property
    def availability(self) -> str:
        """`online` or `offline`, retained; the broker itself says `offline` when the device falls silent."""
        return f"{self.root}/availability"

    @property
    def state(self) -> str:
        """How it is now: one JSON object, retained, replaced; never historical."""
        return f"{self.root}/state"

    @property
    def command(self) -> str:
        """Where the device listens."""
        return f"{self.root}/command"

    @property
    def home_assistant_status(self) -> str:
        """Where Home Assistant says that it has started."""
        return f"{self.discovery_prefix}/status"

    def record(self, kind: RecordKind) -> str:
        """What went through the outbox: in order, numbered, not retained."""
        return f"{self.root}/record/{kind}"

    def discovery(self, component: str, entity: str) -> str:
        """Where Home Assistant is told of one entity."""
        return f"{self.discovery_prefix}/{component}/{self.node_id}/{entity}/config"


def device_topics(config: MqttConfig, device_id: str) -> Topics:
    """The topics of a device."""
    return Topics(
        root=f"{config.base_topic}/{device_id}",
        node_id=f"edgekit_{_NOT_IN_NODE_ID.sub('_', device_id)}",
        discovery_prefix=config.discovery_prefix,
    )
