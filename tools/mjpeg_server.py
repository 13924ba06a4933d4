"""A real MJPEG camera on HTTP for tests and benchmarks: one picture for all viewers, faults on request.

As a program (`python tools/mjpeg_server.py --fps 30`) it prints its address and serves until it is killed; with the
time of each picture painted in (`edgekit.agent.capture.painted_time`), so its age can be told at any place.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.server
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from edgekit.agent.capture.painted_time import paint_time

DEFAULT_TYPE = "multipart/x-mixed-replace; boundary=frame"


def encode_pattern(width: int, height: int, quality: int = 80) -> Callable[[int], bytes]:
    """Makes JPEG pictures of a pattern that moves with their number and carries the time of their making."""
    row, column = np.mgrid[0 : height + 64, 0:width]
    canvas = np.stack([column * 200 // width, row % 64 * 3, (row // 16 + column // 32) % 2 * 90], axis=2)
    canvas = canvas.astype(np.uint8)

    def make(number: int) -> bytes:
        picture = canvas[number % 64 : number % 64 + height].copy()
        paint_time(picture, time.monotonic_ns())
        return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()

    return make


class MjpegServer:
    """Serves until closed. Change its attributes while it runs to make it behave badly.

    Args:
        make: JPEG (or what passes for one) of the nth picture.
        fps: Pictures per second.
        port: 0 for a free one.
    """

    def __init__(self, make: Callable[[int], bytes], fps: float = 30.0, port: int = 0) -> None:
        self.make = make
        self.fps = fps
        self.content_type = DEFAULT_TYPE
        self.status = 200
        self.headers: dict[str, str] = {}
        self.user_and_password: str | None = None
        self.frame_part: Callable[[bytes], bytes] = frame_with_length
        self.max_pictures: int | None = None
        self.requests: list[str] = []
        self.runs = threading.Event()
        self.runs.set()
        self.is_closed = False
        self._news = threading.Condition()
        self._number = 0
        self._picture = b""
        self._connections: set[socket.socket] = set()
        self._maker = threading.Thread(target=self._make_pictures, daemon=True)
        self._maker.start()
        self._server: http.server.ThreadingHTTPServer | None = None
        self.port = port
        self.listen()

    @property
    def address(self) -> str:
        """Where viewers find it."""
        return f"http://127.0.0.1:{self.port}/video"

    def listen(self) -> None:
        """Accept viewers, at the same port as before."""
        self._server = _Server(("127.0.0.1", self.port), _make_viewer(self))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def refuse(self) -> None:
        """Close the port, and every connection: the camera has no power."""
        if self._server is not None:
            self._server.shutdown()
            self.drop()
            self._server.server_close()  # waits for the viewers' threads
            self._server = None

    def drop(self) -> None:
        """Break off every connection."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """Send nothing more on the connections there are, and keep them open."""
        self.runs.clear()

    def resume(self) -> None:
        """Go on sending."""
        self.runs.set()

    def close(self) -> None:
        """End the camera and all its viewers."""
        self.is_closed = True
        self.resume()
        self.refuse()
        self._maker.join()

    def pictures(self) -> Iterator[bytes]:
        """What one viewer gets: the newest picture whenever there is a new one."""
        seen = self._number
        count = 0
        while not self.is_closed and (self.max_pictures is None or count < self.max_pictures):
            with self._news:
                self._news.wait_for(lambda seen=seen: self._number > seen or self.is_closed, 1.0)
                if self._number == seen:
                    continue
                seen, picture = self._number, self._picture
            self.runs.wait()
            count += 1
            yield picture

    @contextlib.contextmanager
    def viewer(self, connection: socket.socket) -> Iterator[None]:
        """Keep a connection while its viewer looks, so that `drop` finds it."""
        self._connections.add(connection)
        try:
            yield
        finally:
            self._connections.discard(connection)

    def _make_pictures(self) -> None:
        due = time.monotonic()
        while not self.is_closed:
            picture = self.make(self._number)
            with self._news:
                self._picture = picture
                self._number += 1
                self._news.notify_all()
            due = max(due + 1 / self.fps, time.monotonic() - 1)
            while not self.is_closed and (wait_s := due - time.monotonic()) > 0:
                time.sleep(min(wait_s, 0.1))


def frame_with_length(jpeg: bytes) -> bytes:
    """A part of the stream, as most cameras send it."""
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n"


def frame_without_length(jpeg: bytes) -> bytes:
    """A part whose end only the next boundary tells."""
    return b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg + b"\r\n"


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Viewers that go away are no news."""


def _make_viewer(camera: MjpegServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Viewer(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            camera.requests.append(self.path)
            wanted = camera.user_and_password
            if wanted is not None:
                token = "Basic " + base64.b64encode(wanted.encode()).decode()
                if self.headers.get("Authorization") != token:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    self.end_headers()
                    return
            self.send_response(camera.status)
            self.send_header("Content-Type", camera.content_type)
            for name, value in camera.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if camera.status != 200:
                return
            with camera.viewer(self.connection), contextlib.suppress(OSError):
                for picture in camera.pictures():
                    self.wfile.write(camera.frame_part(picture))

    return Viewer


def main(arguments: list[str] | None = None) -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    options = parser.parse_args(arguments)
    server = MjpegServer(encode_pattern(options.width, options.height), options.fps, options.port)
    sys.stdout.write(f"{server.address}\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main()
