"""How the bytes of an MJPEG stream are read: in pieces, in chunks, with the head, and without new memory for each."""

from __future__ import annotations

import contextlib
import platform
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera_waits import PATIENCE_S, read_one, running, take, take_until
from edgekit.agent.camera import CAMERAS, CameraRequest
from mjpeg_server import MjpegServer, encode_pattern, frame_with_length

pytestmark = pytest.mark.timeout(120)

JPEG = cv2.imencode(".jpg", np.full((64, 96, 3), 50, np.uint8))[1].tobytes()


@contextlib.contextmanager
def scripted_server(head: bytes, write: Callable[[socket.socket], None]) -> Iterator[CameraRequest]:
    """One viewer gets a head and then what `write` sends; what to ask for to be that viewer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(head)
                write(connection)
                connection.recv(65536)  # until the viewer goes

        thread = threading.Thread(target=answer)
        thread.start()
        yield CameraRequest(kind="mjpeg", source=f"http://127.0.0.1:{listener.getsockname()[1]}/", read_timeout_s=20)
        thread.join(PATIENCE_S)


PLAIN_HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


@pytest.mark.parametrize("num_pieces", [1, 3, 100])
def test_picture_is_whole_with_its_last_byte(num_pieces: int) -> None:
    """Nothing comes after it: neither the next boundary nor anything else that would wake a reader."""
    large = encode_pattern(1920, 1440, quality=95)(0)
    assert len(large) > 100_000
    stream = frame_with_length(large)[:-2]

    def write(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = -(-len(stream) // num_pieces)
        for start in range(0, len(stream), size):
            connection.sendall(stream[start : start + size])
            time.sleep(0.001)

    with scripted_server(PLAIN_HEAD, write) as asked:
        camera = CAMERAS.load("mjpeg").open(asked)
        try:
            assert read_one(camera).jpeg == large
        finally:
            camera.close()


def test_pictures_that_come_with_the_head_are_all_taken() -> None:
    with scripted_server(PLAIN_HEAD + frame_with_length(JPEG) * 3, lambda _: None) as asked:
        camera = CAMERAS.load("mjpeg").open(asked)
        try:
            assert [read_one(camera).jpeg for _ in range(3)] == [JPEG] * 3
        finally:
            camera.close()


def test_stream_in_chunks_is_read() -> None:
    stream = frame_with_length(JPEG) * 5
    head = PLAIN_HEAD.replace(b"1.0", b"1.1").replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")

    def write(connection: socket.socket) -> None:
        for start in range(0, len(stream), 300):
            piece = stream[start : start + 300]
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))

    with scripted_server(head, write) as asked:
        camera = CAMERAS.load("mjpeg").open(asked)
        try:
            assert [read_one(camera).jpeg for _ in range(5)] == [JPEG] * 5
        finally:
            camera.close()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_memory_of_one_picture_serves_the_next() -> None:
    """A decoded picture of 640x480 has 225 pages: were they given back and taken again, each would fault."""
    server = MjpegServer(encode_pattern(640, 480), fps=40)
    try:
        with running(CameraRequest(kind="mjpeg", source=server.address)) as supervisor:
            take_until(supervisor, lambda: supervisor.status().num_grabbed > 20, "the child is warm")
            stat_path = Path(f"/proc/{supervisor.pids()[0]}/stat")

            def count_faults() -> int:
                return int(stat_path.read_text(encoding="utf-8").rpartition(")")[2].split()[7])

            before, first = count_faults(), take(supervisor).sequence
            num = take_until(supervisor, lambda: supervisor.status().num_grabbed > first + 40, "more pictures")
            assert count_faults() - before < 20 * len(num)
    finally:
        server.close()
