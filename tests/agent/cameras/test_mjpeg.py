"""A real MJPEG server, well-behaved and not."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import cv2
import msgspec
import numpy as np
import pytest

from camera_waits import PATIENCE_S, plain_room, read_one, running, take, take_until, wait_until
from edgekit.agent.camera import CAMERAS, CameraLostError, CameraRequest, parse_camera
from edgekit.agent.capture.painted_time import read_time
from edgekit.core.errors import DataError
from mjpeg_server import MjpegServer, encode_pattern, frame_without_length

pytestmark = pytest.mark.timeout(120)

JPEG = cv2.imencode(".jpg", np.full((64, 96, 3), 50, np.uint8))[1].tobytes()


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    server = MjpegServer(encode_pattern(320, 240), fps=40)
    yield server
    server.close()


def request(server: MjpegServer, **changes: object) -> CameraRequest:
    asked = CameraRequest(kind="mjpeg", source=server.address, read_timeout_s=0.6)
    return msgspec.structs.replace(asked, **changes)


def test_pictures_come_with_their_jpeg(server: MjpegServer) -> None:
    with running(request(server)) as supervisor:
        frames = [take(supervisor) for _ in range(5)]
        painted = [read_time(frame.picture) for frame in frames[-1:]]
        status = supervisor.status()

    assert frames[0].picture.shape == (240, 320, 3)
    assert frames[0].color_order in {"bgr", "rgb"}
    assert frames[0].time_source == "arrival"
    assert frames[-1].jpeg is not None
    jpeg = bytes(frames[-1].jpeg)
    assert jpeg.startswith(b"\xff\xd8")
    assert jpeg.endswith(b"\xff\xd9")
    assert painted[0] is not None
    assert painted[0] < frames[-1].captured_ns
    assert (status.width, status.height) == (320, 240)


def test_picture_is_decoded_smaller_when_less_is_needed(server: MjpegServer) -> None:
    with running(request(server, min_size=(96, 96))) as supervisor:
        frame = take(supervisor)
        painted = read_time(frame.picture)
        status = supervisor.status()

    assert frame.picture.shape == (120, 160, 3)
    assert (status.width, status.height) == (320, 240)  # the camera's, not the decoder's
    assert painted is not None


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/x-mixed-replace; boundary=--frame",
        'multipart/x-mixed-replace;boundary="frame"',
    ],
)
def test_sloppy_stream_is_read(server: MjpegServer, content_type: str) -> None:
    server.content_type = content_type
    server.frame_part = frame_without_length

    with running(request(server)) as supervisor:
        assert read_time(take(supervisor).picture) is not None
        take_until(supervisor, lambda: supervisor.status().num_grabbed > 10, "more frames")
        assert supervisor.status().num_lost == 0


def test_stalled_stream_is_lost_and_found_again(server: MjpegServer) -> None:
    with running(request(server)) as supervisor:
        take(supervisor)
        server.stall()
        take_until(supervisor, lambda: supervisor.status().state == "lost", "the stall is seen")
        assert "0.5 s" in supervisor.status().detail
        server.resume()
        take_until(supervisor, lambda: supervisor.status().state == "streaming", "the stream is back")


def test_dropped_connection_is_opened_again(server: MjpegServer) -> None:
    with running(request(server)) as supervisor:
        take(supervisor)
        pids = supervisor.pids()
        for times in (1, 2, 3):
            server.drop()
            take_until(supervisor, lambda times=times: supervisor.status().num_lost == times, "the drop is seen")
            take_until(supervisor, lambda: supervisor.status().state == "streaming", "the stream is back")
        assert supervisor.pids() == pids  # nothing hung, nobody was killed


def test_refused_port_is_lost_and_tried_gently(server: MjpegServer) -> None:
    with running(request(server)) as supervisor:
        take(supervisor)
        server.refuse()
        take_until(supervisor, lambda: "refused" in supervisor.status().detail, "the refusal is told")
        assert supervisor.status().state == "lost"
        assert supervisor._num_openings < 20
        server.listen()
        take_until(supervisor, lambda: supervisor.status().state == "streaming", "the stream is back")


def test_damaged_pictures_in_the_stream_are_ridden_over(server: MjpegServer) -> None:
    good = server.make
    huge = JPEG.replace(b"\x00\x40\x00\x60", b"\xff\xdc\xff\xdc", 1)  # 65,500 x 65,500 in the header
    assert huge != JPEG
    bad = (b"", b"\xff\xd8", huge, b"no picture", JPEG[: len(JPEG) // 2])
    server.make = lambda number: bad[number // 2 % len(bad)] if number % 2 else good(number)

    with running(request(server)) as supervisor:
        frames = take_until(supervisor, lambda: supervisor.status().num_grabbed > 60, "sixty frames")
        painted = [read_time(frame.picture) is not None for frame in frames[-1:]]
        status = supervisor.status()
        assert supervisor._link.counters().num_damaged > 5

    assert all(frame.picture.shape == (240, 320, 3) for frame in frames)
    assert all(painted)
    assert status.num_lost == 0
    assert "damaged" in status.detail


def test_picture_of_any_size_may_follow_any_other(server: MjpegServer) -> None:
    makers = [encode_pattern(320, 240), encode_pattern(160, 120), encode_pattern(1280, 960)]
    server.make = lambda number: makers[number // 3 % 3](number)

    with running(request(server)) as supervisor:
        frames = take_until(supervisor, lambda: supervisor.status().num_grabbed > 40, "forty frames")
        newest = take(supervisor)
        assert read_time(newest.picture) is not None

    assert {frame.picture.shape for frame in frames} == {(240, 320, 3), (120, 160, 3), (960, 1280, 3)}


def test_frozen_picture_is_seen_in_the_jpeg(server: MjpegServer) -> None:
    server.make = lambda _: JPEG

    with running(request(server, frozen_after=10)) as supervisor:
        take_until(supervisor, lambda: supervisor.status().state == "frozen", "the frozen picture is seen")


def test_slow_camera_lives_when_it_says_so() -> None:
    slow = MjpegServer(encode_pattern(320, 240), fps=1.5)
    try:
        with running(request(slow, fps=1.5, read_timeout_s=None)) as supervisor:
            numbers = [take(supervisor).sequence for _ in range(4)]
            assert numbers == [0, 1, 2, 3]
            assert supervisor.status().num_lost == 0
    finally:
        slow.close()


@pytest.mark.slow
def test_camera_of_few_frames_that_does_not_say_so_is_lost_and_its_frames_get_through() -> None:
    """One frame in seven seconds, none of them when it is opened: the deadline is two."""
    slow = MjpegServer(encode_pattern(320, 240), fps=1 / 7)
    try:
        with running(request(slow, read_timeout_s=None)) as supervisor:
            take_until(supervisor, lambda: supervisor.status().state == "lost", "the silence is seen")
            assert "sent no whole picture" in supervisor.status().detail
            assert take(supervisor).sequence < take(supervisor).sequence
    finally:
        slow.close()


@pytest.mark.slow
def test_first_picture_may_take_longer_than_the_others(server: MjpegServer) -> None:
    server.stall()
    with running(request(server)) as supervisor:
        wait_until(lambda: len(server.requests) == 1, "the stream is open")
        time.sleep(1.5)  # more than twice what a picture may take
        assert len(server.requests) == 1
        server.resume()
        take(supervisor)


def test_stream_that_ends_is_opened_again(server: MjpegServer) -> None:
    server.max_pictures = 3

    with running(request(server)) as supervisor:
        take_until(supervisor, lambda: supervisor.status().num_lost >= 2, "two endings")
        take(supervisor)


def test_password_is_sent_and_never_shown(server: MjpegServer) -> None:
    server.user_and_password = "watcher:p@ss word"
    address = server.address.replace("http://", "http://watcher:p%40ss%20word@")
    good = parse_camera(address)
    wrong = parse_camera(address.replace("watcher", "burglar"))

    with running(good) as supervisor:
        take(supervisor)
        assert supervisor.status().source == server.address
    with running(wrong) as supervisor:
        wait_until(lambda: "401" in supervisor.status().detail, "the refusal is told")
        status = supervisor.status()
    assert "burglar" not in repr(status)
    assert "p%40ss" not in repr(status)


@pytest.mark.parametrize(
    ("status", "content_type", "headers", "message"),
    [
        (404, "text/html", {}, "404 Not Found"),
        (401, "text/html", {"WWW-Authenticate": 'Digest realm="x"'}, "only Basic"),
        (200, "image/jpeg", {}, "is a single picture"),
        (200, "text/html", {}, "sends text/html"),
        (302, "text/html", {"Location": "/video"}, "redirects more than"),
        (302, "text/html", {"Location": "file:///etc/passwd"}, "redirected to no"),
    ],
)
def test_what_is_no_stream_is_told(
    server: MjpegServer, status: int, content_type: str, headers: dict[str, str], message: str
) -> None:
    server.status, server.content_type, server.headers = status, content_type, headers

    with pytest.raises(CameraLostError, match=re.escape(message)):
        CAMERAS.load("mjpeg").open(request(server))


def test_password_is_not_sent_to_another_host(server: MjpegServer) -> None:
    other = MjpegServer(lambda _: JPEG)
    other.user_and_password = "me:secret"
    server.status, server.headers = 302, {"Location": other.address}
    try:
        with pytest.raises(CameraLostError, match="401"):
            CAMERAS.load("mjpeg").open(parse_camera(server.address.replace("://", "://me:secret@")))
        assert len(other.requests) == 1
    finally:
        other.close()


def test_redirect_is_followed(server: MjpegServer) -> None:
    other = MjpegServer(lambda _: JPEG)
    server.status, server.headers = 307, {"Location": other.address}
    try:
        camera = CAMERAS.load("mjpeg").open(request(server))
        assert read_one(camera).picture.shape == (64, 96, 3)
        camera.close()
    finally:
        other.close()


def test_server_that_speaks_no_http_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n" * 100)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(CameraLostError, match="cannot reach"):
            CAMERAS.load("mjpeg").open(parse_camera(f"http://127.0.0.1:{listener.getsockname()[1]}/"))
        thread.join(PATIENCE_S)


def test_bytes_that_trickle_are_given_up(server: MjpegServer) -> None:
    """Each read returns in time, but no picture ever comes."""
    server.frame_part = lambda _: b"x"
    camera = CAMERAS.load("mjpeg").open(request(server))
    try:
        with pytest.raises(CameraLostError, match="no whole picture"):
            camera.grab()
    finally:
        camera.close()


def test_part_larger_than_any_picture_is_given_up(server: MjpegServer) -> None:
    server.frame_part = lambda _: b"--frame\r\nContent-Length: 99999999999\r\n\r\n"
    camera = CAMERAS.load("mjpeg").open(request(server))
    try:
        with pytest.raises(CameraLostError, match="no MJPEG stream"):
            camera.grab()
    finally:
        camera.close()


def test_undecodable_picture_is_an_error_of_its_own(server: MjpegServer) -> None:
    server.make = lambda _: b"\xff\xd8\xff\xd9"
    wait_until(lambda: server._picture == b"\xff\xd8\xff\xd9", "the picture that was being made has gone")
    camera = CAMERAS.load("mjpeg").open(request(server))
    try:
        for _ in range(3):
            assert camera.grab() is not None
            with pytest.raises(DataError):
                camera.retrieve(plain_room)
    finally:
        camera.close()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")
def test_stream_of_ffmpeg_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["ffmpeg", "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=25"]
    command += ["-f", "mpjpeg", "-listen", "1", f"http://127.0.0.1:{port}/video"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as ffmpeg:
        try:
            with running(CameraRequest(kind="mjpeg", source=f"http://127.0.0.1:{port}/video")) as supervisor:
                frames = [take(supervisor) for _ in range(5)]
        finally:
            ffmpeg.kill()

    assert frames[-1].picture.shape == (240, 320, 3)
    assert frames[-1].picture.std() > 20
