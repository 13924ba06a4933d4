"""The pages and what each of them answers. Nothing here changes anything. Needs starlette and prometheus_client."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from importlib import resources

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgekit.agent.live import Live
from edgekit.agent.web.access import AccessRules
from edgekit.agent.web.broadcast import Broadcast, ViewerKind
from edgekit.agent.web.events import write_event
from edgekit.agent.web.feed import Feed, FeedResponse
from edgekit.agent.web.gate import Gate
from edgekit.agent.web.health import Health, SnapshotClock, judge_health, judge_readiness
from edgekit.agent.web.metrics import METRICS_MEDIA_TYPE, WebCounts, write_metrics
from edgekit.agent.web.pictures import BOUNDARY, multipart_opening

SNAPSHOT_TIMEOUT_S = 5.0
"""How long `/snapshot.jpg` waits for a picture when nobody looked before."""

_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/figures.js": ("figures.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def make_app(
    live: Live,
    broadcast: Broadcast,
    snapshots: SnapshotClock,
    rules: AccessRules,
    overdue: Callable[[], tuple[str, ...]],
) -> Gate:
    """Put the pages together, behind the gate."""
    pages = Pages(live, broadcast, snapshots, overdue)
    routes = [
        *(Route(path, _serve_file(*file), methods=["GET"]) for path, file in _FILES.items()),
        Route("/stream.mjpg", pages.stream, methods=["GET"]),
        Route("/snapshot.jpg", pages.snapshot, methods=["GET"]),
        Route("/predictions", pages.predictions, methods=["GET"]),
        Route("/healthz", pages.healthz, methods=["GET"]),
        Route("/readyz", pages.readyz, methods=["GET"]),
        Route("/metrics", pages.metrics, methods=["GET"]),
        Route("/status", pages.status, methods=["GET"]),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False  # it would redirect to whatever the Host header says
    return Gate(app, rules)


class Pages:
    """The handlers.

    Args:
        live: What is looked at.
        broadcast: What viewers share.
        snapshots: Age of the newest snapshot.
        overdue: Parts that the watchdog misses.
    """

    def __init__(
        self, live: Live, broadcast: Broadcast, snapshots: SnapshotClock, overdue: Callable[[], tuple[str, ...]]
    ) -> None:
        self._live = live
        self._broadcast = broadcast
        self._snapshots = snapshots
        self._overdue = overdue

    async def stream(self, _request: Request) -> Response:
        """Pictures as they come: multipart/x-mixed-replace."""
        if not self._broadcast.has_room("pictures"):
            return self._full("pictures")
        media_type = f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}"
        feed = Feed(kind="pictures", media_type=media_type, opening=multipart_opening(), turn=0)
        return FeedResponse(self._broadcast, feed)

    async def predictions(self, _request: Request) -> Response:
        """Answers and snapshots as they come: server-sent events."""
        if not self._broadcast.has_room("predictions"):
            return self._full("predictions")
        feed = Feed(
            kind="predictions",
            media_type="text/event-stream",
            opening=self._broadcast.events_opening(),
            turn=self._broadcast.events.turn,
            heartbeat=write_event("heartbeat"),
        )
        return FeedResponse(self._broadcast, feed)

    async def snapshot(self, _request: Request) -> Response:
        """The newest picture; none when the camera gives none, so that nobody takes an old one for new."""
        status = self._live.status()
        if status is not None and status.camera.state in {"opening", "lost", "ended"}:
            return _refuse(f"no picture: camera {status.camera.state}")
        if status is not None and status.state == "wedged":
            return _refuse("no picture: wedged")
        picture = await self._broadcast.snapshot(SNAPSHOT_TIMEOUT_S)
        if picture is None:
            return _refuse(f"no picture within {SNAPSHOT_TIMEOUT_S:.0f} s")
        age_ms = (time.monotonic_ns() - picture.captured_ns) / 1e6
        headers = {"x-frame-sequence": str(picture.sequence), "x-frame-age-ms": f"{age_ms:.1f}"}
        return Response(picture.jpeg, media_type="image/jpeg", headers=headers)

    async def healthz(self, _request: Request) -> Response:
        """Whether the process moves."""
        return _health(judge_health(*self._snapshots.look(), self._overdue()))

    async def readyz(self, _request: Request) -> Response:
        """Whether it answers what the camera sees."""
        return _health(judge_readiness(*self._snapshots.look(), self._overdue()))

    async def metrics(self, _request: Request) -> Response:
        """Everything for Prometheus."""
        status, age_s = self._snapshots.look()
        counts = WebCounts(
            num_picture_viewers=self._broadcast.num_viewers("pictures"),
            num_prediction_viewers=self._broadcast.num_viewers("predictions"),
            num_pictures=self._broadcast.num_pictures,
            num_stalled=self._broadcast.num_stalled,
            num_turned_away=self._broadcast.num_turned_away,
        )
        return Response(write_metrics(status, age_s, counts), headers={"content-type": METRICS_MEDIA_TYPE})

    async def status(self, _request: Request) -> Response:
        """The newest snapshot."""
        status = self._live.status()
        if status is None:
            return _refuse("no snapshot yet: starting")
        return Response(msgspec.json.encode(status), media_type="application/json")

    def _full(self, kind: ViewerKind) -> Response:
        return _refuse(f"{self._broadcast.num_viewers(kind)} viewers look already; close one")


def _serve_file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = (resources.files("edgekit.agent.web") / "page" / name).read_bytes()

    async def serve(_request: Request) -> Response:
        return Response(content, headers={"content-type": media_type})

    return serve


def _health(health: Health) -> Response:
    return Response(msgspec.json.encode(health), 200 if health.ok else 503, media_type="application/json")


def _refuse(reason: str) -> Response:
    body = msgspec.json.encode({"error": reason})
    return Response(body, 503, media_type="application/json", headers={"retry-after": "2"})
