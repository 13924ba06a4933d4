"""A client of the agent's web server that a test reads like a sentence."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec

from edgekit.agent.web.server import WebServer

PATIENCE_S = 30.0
"""Machines are shared: what takes a tenth of a second may take many."""


class Got(msgspec.Struct, frozen=True):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Client:
    """Asks one server."""

    def __init__(self, server: WebServer) -> None:
        self.address = server.address
        self.host, _, port = server.address.removeprefix("http://").rpartition(":")
        self.port = int(port)
        self.sockets: list[socket.socket] = []

    def get(self, path: str, method: str = "GET", **headers: str) -> Got:
        connection = http.client.HTTPConnection(self.host.strip("[]"), self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Got(response.status, names, response.read())
        finally:
            connection.close()

    def open(self, path: str, *, receive_buffer: int | None = None) -> socket.socket:
        """A connection on which the request is sent and nothing is read; closed at the end of the test."""
        client = socket.socket()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(PATIENCE_S)
        client.connect((self.host, self.port))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        self.sockets.append(client)
        return client


Serve = Callable[..., Client]
"""`serve(beat=..., overdue=..., **config)`"""


def read_until(client: socket.socket, mark: bytes, num_times: int = 1) -> bytes:
    """Everything up to the n-th mark and what came with it."""
    content = b""
    while content.count(mark) < num_times:
        more = client.recv(65536)
        assert more, f"the stream ended after {len(content)} bytes"
        content += more
    return content


def wait_until(holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait for a condition; fail when it does not come."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, "the condition did not come"
        time.sleep(0.02)
