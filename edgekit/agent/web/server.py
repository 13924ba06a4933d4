"""The web server: a thread with an event loop of its own, so that nothing it does can hold up the inference."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgekit.agent.live import Live
from edgekit.agent.web.access import AccessRules
from edgekit.agent.web.broadcast import Broadcast, lower_priority
from edgekit.agent.web.config import WebConfig, check_config, is_loopback
from edgekit.agent.web.health import SnapshotClock
from edgekit.agent.web.listener import listen, write_address
from edgekit.core.errors import MissingDependencyError, OutputError

if TYPE_CHECKING:
    from edgekit.agent.web.connection import Server

_PACKAGES = ("starlette", "uvicorn", "prometheus_client")

_BEAT_S = 1.0
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 1.5
_GRACE_S = 0.3
"""For viewers to take the end of their streams; then they are cut off."""


def _no_beat() -> None:
    pass


def _nothing_overdue() -> tuple[str, ...]:
    return ()


class WebServer:
    """Shows a `Live` to browsers, scripts and Prometheus.

    Args:
        config: Where and for whom.
        live: What is shown.
        beat: Called by the event loop itself, about once a second.
        overdue: Names of the parts that the watchdog misses; empty while everything moves.

    Raises:
        UsageError: A setting that cannot be.
    """

    def __init__(
        self,
        config: WebConfig,
        live: Live,
        *,
        beat: Callable[[], None] = _no_beat,
        overdue: Callable[[], tuple[str, ...]] = _nothing_overdue,
    ) -> None:
        check_config(config)
        self._config = config
        self._live = live
        self._beat = beat
        self._overdue = overdue
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._address = ""
        self._error: Exception | None = None

    @property
    def address(self) -> str:
        """Where it can be reached, "http://127.0.0.1:8080"; "" before the start."""
        return self._address

    def start(self) -> None:
        """Listen, and serve from a thread. Does nothing when it serves already.

        Raises:
            MissingDependencyError: The extra is not installed.
            UsageError: The port is in use or not allowed, the host is none of this machine's, or other machines could
                look without a token.
            OutputError: The server did not start.
        """
        if self._thread is not None:
            return
        _require_packages()
        listener = listen(self._config)
        self._address = write_address(self._config.host, listener)
        self._stop, self._error = asyncio.Event(), None
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(listener, started), name="edgekit-web", daemon=True)
        self._thread.start()
        if not started.wait(_START_TIMEOUT_S) or self._error is not None:
            error = self._error
            self.stop()
            raise OutputError(f"the web server at {self._address} did not start: {error or 'timeout'}") from error

    def stop(self) -> None:
        """End all streams and close the port, within a second. Does nothing when it does not serve."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(self._stop.set)
        thread.join(_STOP_TIMEOUT_S)

    def _serve(self, listener: socket.socket, started: threading.Event) -> None:
        lower_priority(5)
        try:
            asyncio.run(self._run(listener, started))
        except (OSError, RuntimeError) as error:
            if started.is_set():
                raise
            self._error = error
        finally:
            listener.close()
            started.set()

    async def _run(self, listener: socket.socket, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        broadcast = Broadcast(self._live, self._config.max_fps, self._config.max_viewers)
        snapshots = SnapshotClock(self._live, time.monotonic)
        server = self._make_server(listener, broadcast, snapshots, started)
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        helping = [asyncio.ensure_future(broadcast.run()), asyncio.ensure_future(self._keep_beating(snapshots))]
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            # A helper that ends has failed: then everything ends, the beats too, and the watchdog sees it.
            await asyncio.wait({serving, stopping, *helping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(server, serving, broadcast)
            for task in (stopping, *helping):
                task.cancel()
            await asyncio.gather(stopping, *helping, return_exceptions=True)
        for task in (serving, *helping):
            if not task.cancelled():
                task.result()

    def _make_server(
        self, listener: socket.socket, broadcast: Broadcast, snapshots: SnapshotClock, started: threading.Event
    ) -> Server:
        from edgekit.agent.web.app import make_app
        from edgekit.agent.web.connection import Server

        address, port = listener.getsockname()[:2]
        rules = AccessRules(
            token=self._config.token,
            cookie=f"edgekit_{port}",
            allowed_hosts=self._config.allowed_hosts if is_loopback(address) else None,
        )
        return Server(make_app(self._live, broadcast, snapshots, rules, self._overdue), started.set)

    async def _keep_beating(self, snapshots: SnapshotClock) -> None:
        while True:
            self._beat()
            snapshots.look()  # so that its age is known when somebody asks
            await asyncio.sleep(_BEAT_S)


async def _end(server: Server, serving: asyncio.Future[None], broadcast: Broadcast) -> None:
    """End streams and server; who does not let go is cut off."""
    broadcast.close()
    server.should_exit = True
    await asyncio.wait({serving}, timeout=_GRACE_S)
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    await asyncio.wait({serving}, timeout=_STOP_TIMEOUT_S)


def _require_packages() -> None:
    try:
        for package in _PACKAGES:
            importlib.import_module(package)
    except ImportError as error:
        raise MissingDependencyError(
            f"the web page needs starlette, uvicorn and prometheus_client: {error}", hint="pip install edgekit[agent]"
        ) from error
