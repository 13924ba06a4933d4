"""What goes through the outbox: drafts, records, and the JSON that a subscriber gets."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from edgekit.agent.mqtt.clock import Moment, age_s, best_unix_s

RecordKind: TypeAlias = Literal["status", "prediction", "event"]

PRIORITIES: dict[RecordKind, int] = {"status": 0, "prediction": 1, "event": 2}
"""What is dropped first when the outbox is full: the lowest."""

MAX_PAYLOAD_BYTES = 64 * 1024
"""A record larger than this is refused, and counted as dropped."""

MAX_SEQUENCE = 2**53 - 1
"""JSON numbers are exact up to here."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A record that has no number yet.

    Args:
        kind: Its topic and its priority.
        made: When.
        payload: JSON, UTF-8.
    """

    kind: RecordKind
    made: Moment
    payload: bytes


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A record in the outbox.

    Args:
        sequence: Rises with every record of this device, over restarts too; gaps are records that were dropped.
        kind: Its topic and its priority.
        made: When.
        payload: JSON, UTF-8.
    """

    sequence: int
    kind: RecordKind
    made: Moment
    payload: bytes

    @property
    def priority(self) -> int:
        """Higher is dropped later."""
        return PRIORITIES[self.kind]


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscriber gets, as JSON.

    Args:
        device: Name of the board.
        sequence: A receiver that has seen (device, sequence) drops the copy.
        kind: As the last level of the topic.
        time_unix_s: When it was made, as well as the device knows at the time of sending.
        historical: Whether it was made before this connection, or more than an interval ago.
        payload: By kind: `StateReport`, `PredictionReport` or `EventReport`.
    """

    device: str
    sequence: int
    kind: RecordKind
    time_unix_s: float
    historical: bool
    payload: msgspec.Raw


def is_historical(made: Moment, now: Moment, connected: Moment, interval_s: float) -> bool:
    """Whether a record tells of the past: made before the connection, or longer ago than an interval."""
    age = age_s(made, now)
    since_connected = age_s(connected, made)
    return age is None or since_connected is None or since_connected < 0 or age > interval_s


def encode_record(record: Record, *, device: str, now: Moment, connected: Moment, interval_s: float) -> bytes:
    """The JSON of a record as it is sent at `now`."""
    envelope = Envelope(
        device=device,
        sequence=record.sequence,
        kind=record.kind,
        time_unix_s=round(best_unix_s(record.made, now), 3),
        historical=is_historical(record.made, now, connected, interval_s),
        payload=msgspec.Raw(record.payload),
    )
    return msgspec.json.encode(envelope)
