"""Where a machine is reached over SSH: "[USER@]HOST[:PORT]"."""

from __future__ import annotations

import re

import msgspec

from edgekit.core.errors import UsageError

SSH_PORT = 22

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?|[0-9A-Fa-f:]{2,45}(%[A-Za-z0-9_.-]{1,32})?")
_HINT = "for example pi@kitchen.local, kitchen.local:2222 or [fe80::1%eth0]:22"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """One machine.

    Args:
        host: Name or address; an IPv6 address without brackets.
        port: Of its SSH server.
        user: To be there; None for what the SSH configuration says, else the user's own name.
    """

    host: str
    port: int = SSH_PORT
    user: str | None = None

    def __str__(self) -> str:
        """As it is written on the command line."""
        user = "" if self.user is None else f"{self.user}@"
        port = "" if self.port == SSH_PORT else f":{self.port}"
        return f"{user}[{self.host}]{port}" if ":" in self.host else f"{user}{self.host}{port}"


def parse_address(text: str) -> Address:
    """Read "[USER@]HOST[:PORT]"; an IPv6 address with a port stands in brackets.

    Raises:
        UsageError: It is none. What begins with a dash, or holds a space, never is.

    >>> str(parse_address("pi@kitchen.local:2222")), parse_address("[::1]:22").host
    ('pi@kitchen.local:2222', '::1')
    """
    user, at, rest = text.rpartition("@")
    if rest.startswith("["):
        host, closed, tail = rest[1:].partition("]")
        is_fine, port = bool(closed) and (not tail or tail.startswith(":")), tail[1:]
    elif rest.count(":") > 1:
        host, port, is_fine = rest, "", True
    else:
        host, colon, port = rest.partition(":")
        is_fine = not colon or bool(port)
    number = int(port) if port.isascii() and port.isdecimal() and len(port) < 6 else (SSH_PORT if not port else 0)
    is_fine = is_fine and bool(_HOST.fullmatch(host)) and 0 < number < 65536
    if not is_fine or (at and not _USER.fullmatch(user)):
        raise UsageError(f"{text!r} is no [USER@]HOST[:PORT]", hint=_HINT)
    return Address(host=host, port=number, user=user if at else None)
