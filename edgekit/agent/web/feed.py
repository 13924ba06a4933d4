"""An endless response: each viewer is sent the newest there is, when it is ready for it. Needs starlette, uvicorn."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edgekit.agent.web.broadcast import Broadcast, ViewerKind
from edgekit.agent.web.connection import Connection
from edgekit.agent.web.newest import Newest

HEARTBEAT_S = 2.0
"""A viewer of predictions hears something at least this often, so that it notices when nobody speaks any more."""


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """What one viewer is sent.

    Args:
        kind: What is looked at.
        media_type: Of the response.
        opening: Sent at once.
        turn: Of what was put, only what is newer is sent.
        heartbeat: Sent when nothing else was for `HEARTBEAT_S`; None: never.
    """

    kind: ViewerKind
    media_type: str
    opening: bytes
    turn: int
    heartbeat: bytes | None = None


class FeedResponse(Response):
    """Sends what is put into a `Newest`, until the viewer goes, stalls, or the server stops.

    Args:
        broadcast: Where it comes from; counts the viewers.
        feed: What of it.
    """

    def __init__(self, broadcast: Broadcast, feed: Feed) -> None:
        super().__init__(media_type=feed.media_type)
        del self.headers["content-length"]
        self._broadcast = broadcast
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one viewer."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        end = {"type": "http.response.body", "body": b"", "more_body": False}
        if scope["method"] == "HEAD":
            await send(start)
            await send(end)
            return
        connection: Connection = scope["state"]["connection"]
        with self._broadcast.looking(self._feed.kind):
            await send(start)
            writing = asyncio.ensure_future(self._write(connection, send))
            leaving = asyncio.ensure_future(_wait_until_gone(receive))
            try:
                await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                writing.cancel()
                leaving.cancel()
                await asyncio.wait({writing, leaving})
        self._broadcast.num_stalled += connection.has_stalled
        if not writing.cancelled():
            writing.result()
            await send(end)

    async def _write(self, connection: Connection, send: Send) -> None:
        newest = self._broadcast.pictures if self._feed.kind == "pictures" else self._broadcast.events
        turn, content = self._feed.turn, self._feed.opening
        while not newest.is_closed:
            if content:
                await send({"type": "http.response.body", "body": content, "more_body": True})
            content = await self._wait(newest, turn)
            await connection.drain()
            turn, newer = newest.since(turn)  # only now: it may have changed while the viewer was not ready
            content = newer or content

    async def _wait(self, newest: Newest, turn: int) -> bytes:
        """Wait for something new; the heartbeat when it takes too long."""
        if self._feed.heartbeat is None:
            await newest.wait(turn)
            return b""
        return b"" if await newest.wait(turn, HEARTBEAT_S) else self._feed.heartbeat


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
