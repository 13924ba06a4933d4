"""How to reach the broker, what to keep while it is out of reach, and how fast to catch up."""

from __future__ import annotations

import math
import re

import msgspec

from edgekit.core.errors import UsageError

PLAIN_PORT = 1883
TLS_PORT = 8883

PASSWORD_VARIABLE = "EDGEKIT_MQTT_PASSWORD"  # noqa: S105 - the name of a variable, no password
"""Environment variable that holds the password when there is no `password_file`."""

MIN_OUTBOX_BYTES = 512 * 1024
"""Below this the journal of the outbox would be larger than the outbox."""

_DEVICE_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TOPIC_LEVEL = re.compile(r"[A-Za-z0-9_.:@-]{1,64}")


class TlsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS to the broker; the broker's certificate and name are always checked.

    Args:
        ca_file: Certificates (PEM) that may vouch for the broker; None: those of the system.
        cert_file: Certificate (PEM) of this device, for brokers that ask for one.
        key_file: Its private key (PEM, not encrypted); None when it lies in `cert_file`.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


class PaceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast records go out. mosquitto drops silently what a subscriber cannot take: by default 1,000 queued.

    Args:
        max_in_flight: Records sent and not yet acknowledged.
        records_per_s: Records per second at most; a subscriber 40 ms away with mosquitto's window of 20 takes 500.
        first_records: Records at most in the first `first_s` seconds of a connection: they fit the queue that a
            broker keeps for a subscriber that is not back yet.
        first_s: See there, seconds; 0 turns it off.
        subscriber_grace_s: So long after connecting, a record that the broker took without any subscriber (MQTT 5
            tells) is kept and sent again, seconds; later it counts as delivered. 0 turns it off.
    """

    max_in_flight: int = 20
    records_per_s: float = 500.0
    first_records: int = 500
    first_s: float = 30.0
    subscriber_grace_s: float = 60.0


class MqttConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The broker and the outbox. The password is never in here: it is read when connecting.

    Args:
        host: Name or address of the broker.
        port: None: 1883, or 8883 with TLS.
        tls: None: without TLS.
        username: None: anonymous.
        password_file: File whose first line is the password; None: environment variable `PASSWORD_VARIABLE`.
        base_topic: What every topic of edgekit begins with.
        discovery: Whether Home Assistant is told what there is.
        discovery_prefix: Where Home Assistant listens.
        outbox_path: SQLite file of the records that wait; its folder is made.
        max_bytes: Of the outbox on disk, journal included.
        interval_s: Seconds between two status records.
        label_hold_s: Seconds that a new label must hold before it is told.
        keepalive_s: Seconds of silence after which the connection is probed.
        retry_min_s: Seconds before the first new attempt to connect; doubles with every failure, with jitter.
        retry_max_s: Where the doubling ends; attempts never end.
        pace: How fast records go out.
    """

    host: str = "localhost"
    port: int | None = None
    tls: TlsConfig | None = None
    username: str | None = None
    password_file: str | None = None
    base_topic: str = "edgekit"
    discovery: bool = True
    discovery_prefix: str = "homeassistant"
    outbox_path: str = "outbox.sqlite3"
    max_bytes: int = 64 * 1024 * 1024
    interval_s: float = 10.0
    label_hold_s: float = 1.0
    keepalive_s: int = 30
    retry_min_s: float = 0.5
    retry_max_s: float = 60.0
    pace: PaceConfig = PaceConfig()

    @property
    def broker_port(self) -> int:
        """The port, also when none was given."""
        if self.port is not None:
            return self.port
        return PLAIN_PORT if self.tls is None else TLS_PORT


def check_config(config: MqttConfig, device_id: str) -> None:
    """Refuse what cannot work.

    Raises:
        UsageError: A value out of its range, a topic with wildcards, a device id that is no topic level.
    """
    if not _DEVICE_ID.fullmatch(device_id):
        raise UsageError(
            f"device id {device_id!r} cannot stand in an MQTT topic",
            hint="use 1 to 64 letters, digits, '_', '.' and '-'",
        )
    for name, topic in (("base_topic", config.base_topic), ("discovery_prefix", config.discovery_prefix)):
        if not all(_TOPIC_LEVEL.fullmatch(level) for level in topic.split("/")):
            raise UsageError(
                f"mqtt.{name} {topic!r} is no topic", hint="levels of letters, digits, '_.:@-', with '/' between them"
            )
    if not config.host:
        raise UsageError("mqtt.host is empty", hint="name the broker, such as 192.168.1.10")
    for name, value, low, high in _ranges(config):
        if not low <= value <= high:  # NaN is in no range
            raise UsageError(f"mqtt.{name} is {value}, expected {low} to {high}")


def _ranges(config: MqttConfig) -> tuple[tuple[str, float, float, float], ...]:
    pace = config.pace
    return (
        ("port", config.broker_port, 1, 65535),
        ("max_bytes", config.max_bytes, MIN_OUTBOX_BYTES, 2**40),
        ("interval_s", config.interval_s, 0.1, 86400.0),
        ("label_hold_s", config.label_hold_s, 0.0, 3600.0),
        ("keepalive_s", config.keepalive_s, 2, 3600),
        ("retry_min_s", config.retry_min_s, 0.01, 3600.0),
        ("retry_max_s", config.retry_max_s, config.retry_min_s, 86400.0),
        ("pace.max_in_flight", pace.max_in_flight, 1, 1000),
        ("pace.records_per_s", pace.records_per_s, 0.1, math.inf),
        ("pace.first_records", pace.first_records, 1, 2**31),
        ("pace.first_s", pace.first_s, 0.0, 3600.0),
        ("pace.subscriber_grace_s", pace.subscriber_grace_s, 0.0, 86400.0),
    )
