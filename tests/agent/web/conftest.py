"""Servers on free ports, ended with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edgekit.agent.live import Live
from edgekit.agent.web.config import WebConfig
from edgekit.agent.web.server import WebServer
from web_client import Client, Serve


@pytest.fixture
def live() -> Live:
    return Live()


@pytest.fixture
def serve(live: Live) -> Iterator[Serve]:
    """`serve(beat=..., overdue=..., **config)`: a client of a new server that shows `live`."""
    servers: list[WebServer] = []
    clients: list[Client] = []

    def start(
        beat: Callable[[], None] = lambda: None, overdue: Callable[[], tuple[str, ...]] = lambda: (), **config: Any
    ) -> Client:
        server = WebServer(WebConfig(**{"port": 0, **config}), live, beat=beat, overdue=overdue)
        server.start()
        servers.append(server)
        client = Client(server)
        clients.append(client)
        return client

    yield start
    for client in clients:
        for opened in client.sockets:
            opened.close()
    for server in servers:
        server.stop()
