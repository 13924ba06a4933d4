"""uvicorn, told to queue nothing, to wait for nobody for ever, and to leave signals alone. Needs uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Generator
from typing import cast

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

MAX_CONNECTIONS = 256
"""A connection beyond is closed at once."""

REQUEST_TIMEOUT_S = 10.0
"""From the first byte of a connection or a request to the end of its headers."""

WRITE_TIMEOUT_S = 10.0
"""A client that has not taken what was written to it by then is dropped."""


class Connection(H11Protocol):
    """uvicorn's protocol, with nothing queued in this process and with time limits.

    A request finds it in `scope["state"]["connection"]`.
    """

    has_stalled = False
    """Whether it was dropped because the client did not read."""

    _patience: asyncio.TimerHandle | None = None
    _write_patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it when there are too many."""
        super().connection_made(transport)
        # Paused as soon as the kernel does not take everything: then the next picture is chosen when there is room.
        transport.set_write_buffer_limits(high=0)
        self.app_state = {**self.app_state, "connection": self}
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._arm()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the headers of a request must be complete in time, however slowly they trickle in."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._disarm()
        elif self._patience is None:
            self._arm()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; whatever is being answered already is given up."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        if cycle is None or not cycle.response_started or cycle.response_complete:
            super().send_400_response(msg)
        else:
            self.abort()  # too late to say so
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._disarm()
        self._forgive()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The kernel's buffer is full: the client has so long to take something."""
        super().pause_writing()
        if self._write_patience is None:
            self._write_patience = self.loop.call_later(WRITE_TIMEOUT_S, self._drop)

    def resume_writing(self) -> None:
        """The kernel has taken everything."""
        self._forgive()
        super().resume_writing()

    async def drain(self) -> None:
        """Wait until the kernel has taken everything that was written, or the connection is lost."""
        if self.flow.write_paused:
            await self.flow.drain()

    def abort(self) -> None:
        """Reset; what was not sent is lost. Closing politely would leave it to the kernel, which would keep it long."""
        reset = struct.pack("ii", 1, 0)
        with contextlib.suppress(OSError):
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        self.transport.abort()

    def _drop(self) -> None:
        self.has_stalled = True
        self.abort()

    def _forgive(self) -> None:
        if self._write_patience is not None:
            self._write_patience.cancel()
            self._write_patience = None

    def _arm(self) -> None:
        self._patience = self.loop.call_later(REQUEST_TIMEOUT_S, self.abort)

    def _disarm(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class Server(uvicorn.Server):
    """uvicorn's server.

    Args:
        app: What it serves.
        is_ready: Called when it accepts connections.
    """

    def __init__(self, app: ASGIApp, is_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._is_ready = is_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        await super().startup(sockets)
        self._is_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to the agent."""
        yield
