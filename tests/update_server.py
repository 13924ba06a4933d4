"""A real HTTP server over a folder, with ranges, counted bytes, and faults on request, for the tests of updates."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


class Request(http.server.BaseHTTPRequestHandler):
    """One request. A fault gets it, and answers in its own way or not at all."""

    protocol_version = "HTTP/1.1"
    server: UpdateServer

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range")))
        self.close_connection = True
        fault = self.server.fault
        with contextlib.suppress(OSError):  # the client may hang up at any moment
            if fault is None or not fault(self):
                self.serve()

    @property
    def content(self) -> bytes | None:
        """Of the file that was asked for."""
        names = (self.path, urllib.parse.unquote(self.path))  # a name may hold percent signs itself
        paths = (self.server.folder / name.lstrip("/") for name in names)
        return next((path.read_bytes() for path in paths if path.is_file()), None)

    @property
    def first_byte(self) -> int:
        """From which byte on it was asked for."""
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])

    def serve(self, *, num_bytes: int | None = None, headers: dict[str, str] | None = None) -> None:
        """Answer as a good server, but hang up after so many bytes."""
        content = self.content
        if content is None:
            self.answer(404, b"not here")
            return
        first = self.first_byte
        stated = {"ETag": f'"{len(content)}"', "Content-Type": "application/octet-stream"}
        if "Range" in self.headers:
            stated["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        stated |= headers or {}
        self.answer(206 if "Range" in self.headers else 200, content[first:], stated, num_bytes=num_bytes)

    def answer(
        self, status: int, content: bytes, headers: dict[str, str] | None = None, *, num_bytes: int | None = None
    ) -> None:
        """Answer anything; with `num_bytes`, hang up after so many bytes of the content."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.send(content if num_bytes is None else content[:num_bytes])
        self.connection.shutdown(socket.SHUT_WR)

    def send(self, content: bytes) -> None:
        """Send content, counted."""
        with self.server.lock:
            self.server.num_content_bytes += len(content)
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


class UpdateServer(http.server.ThreadingHTTPServer):
    """Serves a folder until closed. Set `fault` to make it behave badly."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, folder: Path, tls: ssl.SSLContext | None, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Request)
        self.folder = folder
        self.tls = tls
        self.fault: Callable[[Request], bool] | None = None
        self.requests: list[tuple[str, str | None]] = []
        self.num_content_bytes = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http{'' if self.tls is None else 's'}://{self.server_address[0]}:{self.server_address[1]}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer one, in its own thread; where TLS is spoken, shake hands first, and forgive those who will not."""
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        with contextlib.suppress(OSError), self.tls.wrap_socket(request, server_side=True) as connection:
            super().finish_request(connection, client_address)

    def paths(self) -> list[str]:
        """What was asked for."""
        return [path for path, _ in self.requests]

    def reset(self) -> None:
        """Forget what was counted."""
        self.requests.clear()
        self.num_content_bytes = 0


@contextlib.contextmanager
def serving(folder: Path, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[UpdateServer]:
    """A server that runs as long as the context."""
    folder.mkdir(parents=True, exist_ok=True)
    with UpdateServer(folder, tls, host) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join(30)
            if thread.is_alive():
                pytest.fail("the server did not end")


def answering(status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> Callable[[Request], bool]:
    """A fault: this answer to everything."""

    def fault(request: Request) -> bool:
        request.answer(status, content, headers)
        return True

    return fault
