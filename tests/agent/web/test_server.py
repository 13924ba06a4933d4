"""The server as a script sees it: every address, starting and stopping."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time

import msgspec
import pytest

from agent_live import Feeder, build_status, make_answer, paint, replace_camera
from edgekit.agent.live import Live
from edgekit.agent.web import app, events, feed
from edgekit.agent.web.config import WebConfig
from edgekit.agent.web.server import WebServer
from edgekit.core.device_status import DeviceStatus
from edgekit.core.errors import MissingDependencyError, UsageError
from edgekit.core.frame import Frame
from web_client import Client, Serve, read_until, wait_until


def server_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "edgekit-web"]


# ------------------------------------------------------------------------------------------------------------ answers
def test_status_is_the_snapshot(live: Live, serve: Serve) -> None:
    client = serve()
    assert client.get("/status").status == 503

    live.put_status(build_status())
    got = client.get("/status")

    assert got.headers["content-type"] == "application/json"
    assert msgspec.json.decode(got.body, type=DeviceStatus) == build_status()


def test_snapshot_is_the_newest_picture_and_tells_its_age(live: Live, serve: Serve) -> None:
    client = serve()
    with Feeder(live, is_jpeg=True) as feeder:
        first, second = client.get("/snapshot.jpg"), client.get("/snapshot.jpg")
        assert feeder.jpegs is not None
        for got in (first, second):
            assert got.status == 200
            assert got.headers["content-type"] == "image/jpeg"
            assert got.body == feeder.jpegs[int(got.headers["x-frame-sequence"]) % len(feeder.jpegs)]
            assert float(got.headers["x-frame-age-ms"]) > 27
        assert int(second.headers["x-frame-sequence"]) >= int(first.headers["x-frame-sequence"])


def test_snapshot_is_refused_when_there_is_no_new_picture(
    live: Live, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "SNAPSHOT_TIMEOUT_S", 0.2)
    client = serve()
    live.put_status(build_status())
    got = client.get("/snapshot.jpg")
    assert (got.status, "retry-after" in got.headers) == (503, True)

    with Feeder(live) as feeder:
        assert client.get("/snapshot.jpg").status in {200, 503}
        feeder.status = replace_camera(build_status(state="waiting"), state="lost")
        live.put_status(feeder.status)
        got = client.get("/snapshot.jpg")
        assert (got.status, got.json()) == (503, {"error": "no picture: camera lost"})


def test_health_is_the_watchdogs_view_and_needs_no_figures(live: Live, serve: Serve) -> None:
    missing: list[str] = []
    client = serve(overdue=lambda: tuple(missing))
    assert client.get("/healthz").json()["state"] == "starting"
    assert client.get("/readyz").status == 503

    live.put_status(build_status())
    assert client.get("/healthz").status == 200
    assert client.get("/readyz").json() == {"ok": True, "state": "serving", "camera": "streaming", "reason": ""}

    missing.append("inference")
    got = client.get("/healthz")
    assert (got.status, got.json()["reason"]) == (503, "does not move: inference")
    assert client.get("/readyz").status == 503


def test_metrics_are_text(live: Live, serve: Serve) -> None:
    client = serve()
    assert b"edgekit_web_viewers" in client.get("/metrics").body
    live.put_status(build_status())

    got = client.get("/metrics")

    assert got.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'edgekit_latency_seconds{quantile="0.99",stage="inference"}' in got.body


@pytest.mark.parametrize(
    "path", ["/", "/page.css", "/page.js", "/figures.js", "/icon.svg", "/stream.mjpg", "/predictions", "/status"]
)
def test_nothing_can_be_changed(live: Live, serve: Serve, path: str) -> None:
    live.put_status(build_status())
    client = serve()

    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert client.get(path, method).status == 405
    head = client.get(path, "HEAD")
    assert (head.status, head.body) == (200, b"")


def test_unknown_paths_are_not_found(serve: Serve) -> None:
    client = serve()

    for path in ("/nothing", "/../etc/passwd", "/page.js/", "/%00", "/page/sign_in.html", "//evil.example/"):
        assert client.get(path).status == 404


# ------------------------------------------------------------------------------------------------------------ streams
def test_stream_shows_what_the_camera_coded_and_only_rising_numbers(live: Live, serve: Serve) -> None:
    client = serve()
    with Feeder(live, is_jpeg=True) as feeder:
        content = read_until(client.open("/stream.mjpg"), b"--edgekit-frame", 12)
    head, _, body = content.partition(b"\r\n\r\n")
    assert b"multipart/x-mixed-replace; boundary=edgekit-frame" in head

    assert feeder.jpegs is not None
    shown = [int(line.split()[-1]) for line in body.split(b"\r\n") if line.startswith(b"X-Frame-Sequence")]
    assert len(shown) >= 11
    assert shown == sorted(set(shown))
    assert feeder.jpegs[shown[3] % len(feeder.jpegs)] in body


def test_predictions_begin_with_the_newest_and_go_on(live: Live, serve: Serve) -> None:
    client = serve()
    live.put_status(build_status())
    answer = make_answer(41, "an answer\nof 2 lines: \u2028 data: x")
    with Feeder(live) as feeder:
        feeder.is_paused = True
        time.sleep(0.1)  # a frame that is on its way
        live.put(Frame(picture=paint(0), color_order="rgb", sequence=41, captured_ns=0, time_source="arrival"), answer)
        stream = client.open("/predictions")
        start = read_until(stream, b"event: answer")
        start += read_until(stream, b"\n\n")
        told = start.split(b"event: answer\ndata: ")[1].split(b"\n\n")[0]
        event = msgspec.json.decode(told, type=events.AnswerEvent)
        assert event.label == answer.label
        assert event.age_ms == pytest.approx(27.3)
        assert event.since_ms > 0
        assert b"content-type: text/event-stream" in start.lower()
        assert start.index(b"retry: 2000") < start.index(b"event: status") < start.index(b"event: answer")

        feeder.is_paused = False
        more = read_until(stream, b"event: answer", 10)
    sequences = [
        msgspec.json.decode(line[6:])["sequence"] for line in more.split(b"\n") if b'data: {"sequence"' in line
    ]
    assert sequences == sorted(set(sequences))


def test_predictions_have_a_heartbeat_when_nothing_happens(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "HEARTBEAT_S", 0.05)

    stream = serve().open("/predictions")

    assert read_until(stream, b"event: heartbeat\ndata: {}\n\n", 3)


def test_loop_keeps_no_pictures_when_nobody_looks(live: Live, serve: Serve) -> None:
    client = serve()
    with Feeder(live):
        assert client.get("/snapshot.jpg").status == 200
        # Live keeps them for two seconds after the last look; whoever looks here would prolong it.
        wait_until(lambda: live._shot is None)
        time.sleep(0.2)
        assert live._shot is None


# ---------------------------------------------------------------------------------------------------------- lifecycle
def test_start_says_which_port_is_in_use_and_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = WebServer(WebConfig(port=port), Live())

        with pytest.raises(UsageError, match=f"port {port}") as caught:
            server.start()

    assert "another port" in (caught.value.hint or "")
    server.stop()
    assert not server_threads()


def test_start_and_stop_may_be_called_twice_and_the_port_is_free_again() -> None:
    server = WebServer(WebConfig(port=0), Live())
    server.stop()
    server.start()
    first = server.address
    server.start()
    assert server.address == first
    server.stop()
    server.stop()

    port = int(first.rpartition(":")[2])
    again = WebServer(WebConfig(port=port), Live())
    again.start()
    assert again.address == first
    again.stop()
    assert not server_threads()


def test_stop_ends_open_streams_and_idle_and_stuck_clients(live: Live) -> None:
    server = WebServer(WebConfig(port=0), live)
    server.start()
    client = Client(server)
    with Feeder(live, is_jpeg=True):
        stream, predictions = client.open("/stream.mjpg"), client.open("/predictions")
        stuck = client.open("/stream.mjpg", receive_buffer=2048)
        idle = socket.create_connection((client.host, client.port))
        read_until(stream, b"--edgekit-frame", 3)
        read_until(predictions, b"event: answer")
        server.stop()
    assert not server_threads()
    for opened in (stream, predictions, idle):
        opened.settimeout(30)
        while opened.recv(65536):
            pass
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((client.host, client.port))
    idle.close()
    for opened in (stream, predictions, stuck):
        opened.close()
    assert not server_threads()


def test_beat_comes_from_the_event_loop_and_ends_with_it() -> None:
    beats: list[str] = []
    server = WebServer(WebConfig(port=0), Live(), beat=lambda: beats.append(threading.current_thread().name))
    server.start()
    wait_until(lambda: len(beats) >= 3)
    server.stop()
    num_beats = len(beats)

    assert set(beats) == {"edgekit-web"}
    time.sleep(1.2)
    assert len(beats) == num_beats


def test_beat_stops_when_the_event_loop_is_stuck() -> None:
    beats: list[float] = []
    server = WebServer(WebConfig(port=0), Live(), beat=lambda: beats.append(time.monotonic()))
    server.start()
    stuck, release = threading.Event(), threading.Event()
    assert server._loop is not None
    server._loop.call_soon_threadsafe(lambda: (stuck.set(), release.wait(30)))
    assert stuck.wait(30)
    num_beats = len(beats)

    time.sleep(1.5)
    assert len(beats) == num_beats
    release.set()
    wait_until(lambda: len(beats) > num_beats)
    server.stop()


def test_signals_stay_the_agents() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    server = WebServer(WebConfig(port=0), Live())
    server.start()

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    server.stop()


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "prometheus_client"])
def test_start_says_what_to_install_when_it_is_not_there(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    server = WebServer(WebConfig(port=0), Live())

    with pytest.raises(MissingDependencyError) as caught:
        server.start()

    assert caught.value.hint == "pip install edgekit[agent]"


def test_import_needs_no_extra_and_no_opencv() -> None:
    heavy = ("starlette", "uvicorn", "prometheus_client", "h11", "cv2")
    program = (
        "import sys; import edgekit.agent.web.server, edgekit.agent.web.config; "
        f"print(sorted(set({heavy!r}) & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
