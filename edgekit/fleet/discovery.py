"""Boards that announce themselves on the network (mDNS / DNS-SD, RFC 6762 and 6763): nothing is configured for it.

Raspberry Pi OS announces its SSH server when avahi is told to; a board with edgekit's own announcement says more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from edgekit.core.errors import BoardError, MissingDependencyError

if TYPE_CHECKING:
    from zeroconf import ServiceInfo

EDGEKIT_SERVICE = "_edgekit._tcp.local."
SSH_SERVICE = "_ssh._tcp.local."
SERVICES = (EDGEKIT_SERVICE, SSH_SERVICE)

_RESOLVE_MS = 3000


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One board that was heard.

    Args:
        name: As it calls itself.
        host: Its host name, "kitchen.local".
        addresses: Where it is reached, IPv4 first.
        port: Of its SSH server.
        board: Board id; None when it does not say.
        release: Release that it serves; None when it does not say.
        is_edgekit: Whether edgekit's agent announces it, not the SSH server alone.
    """

    name: str
    host: str
    addresses: tuple[str, ...]
    port: int
    board: str | None = None
    release: str | None = None
    is_edgekit: bool = False


def discover(seconds: float, *, interfaces: Iterable[str] | None = None) -> tuple[Found, ...]:
    """Listen for boards.

    Args:
        seconds: How long; what answers within the first is usually all there is.
        interfaces: Addresses of this machine to listen on; None for all.

    Returns:
        What was heard, each host once, sorted by host.

    Raises:
        MissingDependencyError: zeroconf is not installed.
        BoardError: There is no network to listen on.
    """
    try:
        from zeroconf import InterfaceChoice, ServiceBrowser, ServiceStateChange, Zeroconf
    except ImportError as error:
        raise MissingDependencyError("discovery needs zeroconf", hint="pip install edgekit[flash]") from error
    heard: set[tuple[str, str]] = set()

    def hear(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        del zeroconf  # zeroconf calls this by keyword, from its own thread
        (heard.discard if state_change is ServiceStateChange.Removed else heard.add)((service_type, name))

    try:
        network = Zeroconf(interfaces=InterfaceChoice.All if interfaces is None else list(interfaces))
    except OSError as error:
        raise BoardError(f"cannot listen for boards: {error.strerror or error}", hint="is a network up?") from error
    try:
        browser = ServiceBrowser(network, list(SERVICES), handlers=[hear])
        threading.Event().wait(seconds)
        browser.cancel()
        infos = [network.get_service_info(kind, name, _RESOLVE_MS) for kind, name in sorted(heard)]
    finally:
        network.close()
    return merge([found_from(info) for info in infos if info is not None])


def merge(found: Iterable[Found]) -> tuple[Found, ...]:
    """Each host once: what edgekit says of itself, with the port of its SSH server.

    >>> ssh = Found(name="a", host="a.local", addresses=("10.0.0.7",), port=2222)
    >>> own = Found(name="a", host="a.local", addresses=("10.0.0.7",), port=22, board="pi", is_edgekit=True)
    >>> [(one.port, one.board) for one in merge([own, ssh])]
    [(2222, 'pi')]
    """
    hosts: dict[str, Found] = {}
    for one in sorted(found, key=lambda one: not one.is_edgekit):
        known = hosts.get(one.host)
        if known is None:
            hosts[one.host] = one
        elif known.is_edgekit and not one.is_edgekit:
            hosts[one.host] = msgspec.structs.replace(known, port=one.port)
    return tuple(hosts[host] for host in sorted(hosts))


def found_from(info: ServiceInfo) -> Found:
    """What a service says. Its text comes from the network: odd bytes are escaped, long values cut."""
    from zeroconf import IPVersion

    text = {_plain(key): _plain(value or b"") for key, value in info.properties.items()}
    is_edgekit = info.type == EDGEKIT_SERVICE
    ssh_port = text.get("ssh_port", "")
    port = info.port or 22
    if is_edgekit:
        port = int(ssh_port) if ssh_port.isascii() and ssh_port.isdecimal() and 0 < int(ssh_port) < 65536 else 22
    addresses = (*info.parsed_addresses(IPVersion.V4Only), *info.parsed_addresses(IPVersion.V6Only))
    return Found(
        name=_plain(info.name.removesuffix(f".{info.type}").encode()),
        host=_plain((info.server or "").rstrip(".").lower().encode()),
        addresses=tuple(addresses),
        port=port,
        board=text.get("board") if is_edgekit else None,
        release=text.get("release") if is_edgekit else None,
        is_edgekit=is_edgekit,
    )


def _plain(content: bytes) -> str:
    text = content.decode("utf-8", errors="replace")[:120]
    return "".join(letter if letter.isprintable() else "?" for letter in text)
