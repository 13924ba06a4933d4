"""The door, over real connections."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from agent_live import Feeder, build_status
from edgekit.agent.live import Live
from edgekit.agent.web import connection
from edgekit.agent.web.config import WebConfig
from edgekit.agent.web.server import WebServer
from web_client import Serve

TOKEN = "correct-horse-battery"
PRIVATE = ["/", "/page.js", "/stream.mjpg", "/snapshot.jpg", "/predictions", "/metrics", "/status", "/nothing"]


@pytest.mark.parametrize("path", PRIVATE)
def test_everything_but_health_needs_the_token(live: Live, serve: Serve, path: str) -> None:
    live.put_status(build_status())
    client = serve(token=TOKEN)

    for headers in ({}, {"authorization": "Bearer wrong-wrong-wrong"}, {"cookie": "edgekit=1"}):
        got = client.get(path, **headers)
        assert got.status == 401
        assert got.headers["www-authenticate"] == "Bearer"
        assert b"kitchen" not in got.body
    assert client.get(path, "POST").status == 401


def test_health_is_open_and_tells_nothing_secret(live: Live, serve: Serve) -> None:
    status = build_status(detail="rtsp://user:secret@10.0.0.7/door", state="wedged")
    live.put_status(status)
    client = serve(token=TOKEN)

    for path in ("/healthz", "/readyz"):
        got = client.get(path)
        assert got.status == 503
        for word in (b"secret", b"10.0.0.7", b"kitchen", b"/dev/video0", b"mobilenet"):
            assert word not in got.body


def test_token_in_the_address_becomes_a_cookie_once(live: Live, serve: Serve) -> None:
    live.put_status(build_status())
    client = serve(token=TOKEN)

    got = client.get(f"/status?token={TOKEN}")
    assert (got.status, got.headers["location"]) == (303, "/status")
    cookie = got.headers["set-cookie"].partition(";")[0]
    assert TOKEN not in str(got)

    assert client.get("/status", cookie=cookie).status == 200
    assert client.get("/status", authorization=f"Bearer {TOKEN}").status == 200
    assert client.get("/status", cookie=cookie[:-1]).status == 401
    assert serve(token=f"{TOKEN}-2").get("/status", cookie=cookie).status == 401


@pytest.mark.parametrize(
    "path", ["//evil.example/%0d%0aset-cookie:x=1", "/%0d%0aX-Evil:%201", "/\u00e9".encode().decode("latin-1")]
)
def test_token_in_a_hostile_address_leads_nowhere_else(serve: Serve, path: str) -> None:
    client = serve(token=TOKEN)
    with socket.create_connection((client.host, client.port), timeout=30) as raw:
        raw.sendall(f"GET {path}?token={TOKEN} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
        answer = b"".join(iter(lambda: raw.recv(65536), b""))

    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"x-evil:" not in head
    assert b"set-cookie:x" not in head
    assert b"location: //" not in head
    assert b"location: http" not in head


def test_browser_without_the_token_is_asked_for_it(serve: Serve) -> None:
    client = serve(token=TOKEN)

    got = client.get('/%22%3E%3Cscript%3E?x="', accept="text/html")
    assert got.status == 401
    assert b"<script" not in got.body
    assert b'name="token"' in got.body
    assert b"That was not the token" not in got.body
    assert b"That was not the token" in client.get("/?token=wrong", accept="text/html").body


def test_other_names_are_refused_on_loopback(live: Live, serve: Serve) -> None:
    live.put_status(build_status())
    client = serve(allowed_hosts=("door.example",))

    for path in ("/", "/status", "/healthz", "/stream.mjpg"):
        assert client.get(path, host="evil.example").status == 421
    assert client.get("/status", host="door.example").status == 200
    assert client.get("/status", host=f"localhost:{client.port}").status == 200


def test_other_sites_cannot_embed_the_picture(serve: Serve) -> None:
    client = serve()

    got = client.get("/stream.mjpg", sec_fetch_site="cross-site", sec_fetch_mode="no-cors")
    assert got.status == 403


@pytest.mark.parametrize("path", ["/", "/page.js", "/status", "/healthz", "/metrics", "/nothing"])
def test_every_response_keeps_the_browser_in_bounds(serve: Serve, path: str) -> None:
    got = serve().get(path)

    assert "default-src 'none'" in got.headers["content-security-policy"]
    assert "unsafe" not in got.headers["content-security-policy"]
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["cross-origin-resource-policy"] == "same-origin"
    assert got.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in got.headers
    assert "server" not in got.headers


def test_server_on_all_addresses_serves_with_a_token(live: Live) -> None:
    live.put_status(build_status())
    server = WebServer(WebConfig(host="0.0.0.0", port=0, token=TOKEN), live)
    server.start()
    port = int(server.address.rpartition(":")[2])
    request = (
        f"GET /status HTTP/1.1\r\nHost: kitchen.local\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
        raw.sendall(request.encode())
        assert raw.recv(65536).startswith(b"HTTP/1.1 200")
    server.stop()


def test_server_on_ipv6_loopback_serves(live: Live) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 loopback")
    live.put_status(build_status())
    server = WebServer(WebConfig(host="::1", port=0), live)
    server.start()
    assert server.address.startswith("http://[::1]:")
    port = int(server.address.rpartition(":")[2])
    with socket.create_connection(("::1", port), timeout=30) as raw:
        raw.sendall(f"GET /status HTTP/1.1\r\nHost: [::1]:{port}\r\nConnection: close\r\n\r\n".encode())
        assert raw.recv(65536).startswith(b"HTTP/1.1 200")
    server.stop()


GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    b"\r\n\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",  # no Host
    b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /predictions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",  # garbage follows
    b"GET /predictions HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
]


def test_garbage_is_answered_or_closed_and_harms_nobody(
    live: Live, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    live.put_status(build_status())
    client = serve()
    for garbage in GARBAGE:
        with socket.create_connection((client.host, client.port), timeout=30) as raw:
            raw.sendall(garbage)
            if b"predictions" in garbage:
                raw.recv(65536)
                raw.sendall(b"zz\r\n" * 5)
            raw.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                raw.recv(65536)
    assert client.get("/status").status == 200
    assert [record for record in caplog.records if record.exc_info] == []


def test_half_a_request_is_closed_in_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_TIMEOUT_S", 0.3)
    client = serve()
    silent = socket.create_connection((client.host, client.port), timeout=30)
    trickling = socket.create_connection((client.host, client.port), timeout=30)
    trickling.sendall(b"GET / HTTP/1.1\r\n")
    ended = threading.Event()

    def trickle() -> None:
        with contextlib.suppress(OSError):
            while not ended.wait(0.05):
                trickling.sendall(b"X-A: b\r\n")

    thread = threading.Thread(target=trickle)
    thread.start()
    with silent, trickling:
        for raw in (silent, trickling):
            assert _is_ended(raw)
        ended.set()
        thread.join()


def test_connections_beyond_the_limit_are_closed_and_those_within_stay(
    live: Live, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 5)
    live.put_status(build_status())
    client = serve()
    held = [client.open("/predictions") for _ in range(5)]
    for stream in held:
        assert stream.recv(16)

    with socket.create_connection((client.host, client.port), timeout=30) as beyond:
        assert _is_ended(beyond)
    with Feeder(live):
        for stream in held:
            assert stream.recv(16)


def _is_ended(raw: socket.socket) -> bool:
    """Wait for the other side to say something, or to end it."""
    try:
        return raw.recv(65536) == b""
    except ConnectionResetError:
        return True
