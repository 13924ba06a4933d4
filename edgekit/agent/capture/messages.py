"""What the agent and its capture process say to each other, one message a packet. Pictures go through shared memory."""

from __future__ import annotations

import socket
from typing import TypeAlias

import msgspec

from edgekit.agent.camera import CameraFacts, CameraRequest

MAX_MESSAGE_BYTES = 64 * 1024


class Open(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """To the child: open the camera and stream. The only thing that is ever asked of it.

    Args:
        request: What to open.
    """

    request: CameraRequest


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From the child: everything is imported, it waits for `Open`."""


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """From the child: the camera is open and streams."""

    facts: CameraFacts


class Lost(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """From the child: the camera could not be opened, or went away. It waits for `Open`.

    Args:
        detail: Why, for people, without secrets.
    """

    detail: str


class Ended(msgspec.Struct, frozen=True, tag=True):
    """From the child: the file is over. It waits for `Open`."""


Message: TypeAlias = Open | Ready | Opened | Lost | Ended

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def send_message(channel: socket.socket, message: Message) -> None:
    """Send one message.

    Raises:
        OSError: The other side is gone.
    """
    channel.send(_encoder.encode(message))


def receive_message(channel: socket.socket) -> Message | None:
    """Receive one message; None when the other side is gone.

    Raises:
        BlockingIOError: The socket does not block, and there is none.
    """
    try:
        packet = channel.recv(MAX_MESSAGE_BYTES)
    except ConnectionError:
        return None
    return _decoder.decode(packet) if packet else None
