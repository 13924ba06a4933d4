"""Where the web server listens, and who may look."""

from __future__ import annotations

import ipaddress
import re

import msgspec

from edgekit.core.errors import UsageError

MIN_TOKEN_LENGTH = 12
"""Characters. Below this a token could be guessed over the network."""

_TOKEN = re.compile(rf"[A-Za-z0-9._~+/=-]{{{MIN_TOKEN_LENGTH},}}")
"""What may stand behind `Authorization: Bearer` (RFC 6750, section 2.1)."""


class WebConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The web server.

    Args:
        host: Address or name to listen on; this machine alone unless told otherwise. "0.0.0.0" and "::" are all.
        port: 0 takes a free one.
        token: Who looks must know it; None on loopback lets everybody on this machine look.
        allowed_hosts: More names under which a browser on this machine may ask for a server on loopback (behind a
            proxy); its own are always allowed.
        max_viewers: Pictures are sent to this many at once, and as many again may follow the predictions.
        max_fps: Pictures and predictions per second for each of them, at most.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    max_viewers: int = 64
    max_fps: float = 15.0

    def __repr__(self) -> str:
        """All but the token."""
        token = None if self.token is None else "***"
        return f"WebConfig(host={self.host!r}, port={self.port}, token={token!r}, ...)"


def check_config(config: WebConfig) -> None:
    """Refuse what cannot be.

    Raises:
        UsageError: A port, a number of viewers or a rate out of range, or a token that is too short or that no header
            can carry.
    """
    if not 0 <= config.port <= 65535:
        raise UsageError(f"web port {config.port} is none: 0 to 65535", hint="take 8080")
    if config.max_viewers < 1:
        raise UsageError(
            f"max_viewers is {config.max_viewers}, at least 1", hint="to switch the page off, leave web out"
        )
    if not 0 < config.max_fps <= 120:
        raise UsageError(f"max_fps is {config.max_fps}, above 0 and at most 120", hint="take 15")
    if config.token is not None and not _TOKEN.fullmatch(config.token):
        raise UsageError(
            f"this web token will not do: at least {MIN_TOKEN_LENGTH} letters, digits or any of . _ ~ + / = -",
            hint="make one: python3 -c 'import secrets; print(secrets.token_urlsafe(24))'",
        )


def check_exposure(config: WebConfig, address: str) -> None:
    """Refuse to show a camera to the network without a token.

    Args:
        config: What was asked for.
        address: What its host stands for, as numbers.

    Raises:
        UsageError: The address can be reached from other machines, and there is no token.
    """
    if config.token is None and not is_loopback(address):
        raise UsageError(
            f"other machines can reach {config.host} ({address}), and there is no web token",
            hint="set a token, or listen on 127.0.0.1 and come through ssh -L 8080:127.0.0.1:8080",
        )


def is_loopback(address: str) -> bool:
    """Whether an address, in numbers, is of this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("kitchen.local")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False
