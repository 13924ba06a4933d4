"""What may be asked of a device over MQTT. Everything else is ignored and counted."""

from __future__ import annotations

from typing import Literal

import msgspec

MAX_COMMAND_BYTES = 1024
"""Anything longer is no command, and is not parsed."""

MAX_PACKET_BYTES = 16 * 1024
"""A broker that speaks MQTT 5 is told not to send anything longer."""


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request.

    Args:
        command: `announce`: tell Home Assistant again; `report`: a status record at once.
    """

    command: Literal["announce", "report"]


_DECODER = msgspec.json.Decoder(Command, strict=True)


def parse_command(payload: bytes) -> Command | None:
    """The command in a message, or None when it is none.

    >>> parse_command(b'{"command": "report"}')
    Command(command='report')
    >>> parse_command(b'{"command": "report", "then": NaN}') is None
    True
    """
    if len(payload) > MAX_COMMAND_BYTES:
        return None
    try:
        return _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
