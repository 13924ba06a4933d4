"""The port: taken by the caller of `start()`, so that what is wrong with it is said there."""

from __future__ import annotations

import contextlib
import errno
import socket

from edgekit.agent.web.config import WebConfig, check_exposure
from edgekit.core.errors import UsageError

_SEND_BUFFER_BYTES = 256 * 1024
"""In the kernel, per connection. The more there is, the older are the pictures that a slow viewer sees."""

_BACKLOG = 128


def listen(config: WebConfig) -> socket.socket:
    """Take the port.

    Raises:
        UsageError: It is in use or not allowed, the host is none of this machine's, or has no token and needs one.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"web host {config.host!r} is unknown: {error}", hint="take 127.0.0.1") from error
    check_exposure(config, str(address[0]))
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        _set_options(listener)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {config.host}, port {config.port}: {error.strerror}", hint=_hint(error, config.port)
        ) from error
    return listener


def write_address(host: str, listener: socket.socket) -> str:
    """The address for people: a name as it was asked for, numbers as they are bound."""
    address, port = listener.getsockname()[:2]
    name = address if ":" in address else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _set_options(listener: socket.socket) -> None:
    """Every accepted connection inherits them: a small send buffer, and probes that find dead clients."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        with contextlib.suppress(AttributeError, OSError):  # not everywhere
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)


def _hint(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"another program has port {port} (ss -ltnp 'sport = :{port}' names it): end it, or take another port"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"port {port} is for root alone: take one above 1023"
    return "take an address of this machine (ip addr lists them), 127.0.0.1 or 0.0.0.0"
