"""A network camera that sends JPEG pictures over HTTP without end (multipart/x-mixed-replace)."""

from __future__ import annotations

import base64
import http.client
import select
import socket
import ssl
import time
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from edgekit.agent.camera import (
    CameraFacts,
    CameraKind,
    CameraLostError,
    CameraRequest,
    Grab,
    Room,
    Shot,
    show_source,
)
from edgekit.agent.capture.jpeg import decode_jpeg
from edgekit.agent.capture.multipart import PartParser, find_boundary
from edgekit.agent.capture.rules import find_own_timeout_s
from edgekit.core.errors import DataError, UsageError

_CONNECT_TIMEOUT_S = 5.0
_MAX_REDIRECTS = 3
_PIECE_BYTES = 128 * 1024
_MAX_LOW_WATER_BYTES = 32 * 1024
"""Less than any kernel's receive buffer: it must not wait for bytes that it has no place for."""


class _Mjpeg:
    """Reads all that comes and decodes the picture that is asked for. The capture time is when its last byte came."""

    def __init__(self, request: CameraRequest) -> None:
        self._request = request
        self._shown = show_source(request)
        self._timeout_s = find_own_timeout_s(request, None, is_first=True)
        self._part = b""
        self._connection, self._socket, self._response = self._connect(request.source)
        content_type = self._response.headers.get("Content-Type", "")
        boundary = find_boundary(content_type)
        if boundary is None and content_type.startswith(("image/", "text/")):
            self.close()
            what = "is a single picture" if content_type.startswith("image/") else f"sends {content_type}"
            raise CameraLostError(f"{self._shown} {what}, expected multipart/x-mixed-replace")
        self._parser = PartParser(boundary)
        self._stream = _Stream(self._socket, self._response)
        self.facts = CameraFacts(fps=request.fps)

    def grab(self) -> Grab:
        deadline = time.monotonic() + self._timeout_s
        try:
            part = self._parser.next_part()
            while part is None:
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0:
                    raise CameraLostError(f"{self._shown} sent no whole picture for {self._timeout_s:.1f} s")
                if not self._stream.read_into(self._parser, remaining_s):
                    raise CameraLostError(f"{self._shown} ended its stream")
                part = self._parser.next_part()
        except TimeoutError as error:
            raise CameraLostError(f"{self._shown} sent no whole picture for {self._timeout_s:.1f} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise CameraLostError(f"{self._shown} broke off: {error}") from error
        except DataError as error:
            raise CameraLostError(f"{self._shown} is no MJPEG stream: {error.message}") from error
        self._part = part
        self._timeout_s = find_own_timeout_s(self._request, None)
        return Grab(captured_ns=time.monotonic_ns(), time_source="arrival")

    def retrieve(self, room: Room) -> Shot:
        return decode_jpeg(self._part, room, self._request.min_size)

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def _connect(self, address: str) -> tuple[http.client.HTTPConnection, socket.socket, http.client.HTTPResponse]:
        """Ask for the stream, following redirects; what is kept open."""
        parts = urlsplit(address)
        authorization = _find_authorization(parts)
        for _ in range(_MAX_REDIRECTS + 1):
            connection = _make_connection(parts)
            try:
                connection.connect()
                channel: socket.socket = connection.sock
                channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                headers = {"Accept": "multipart/x-mixed-replace, image/jpeg", "Connection": "close"}
                if authorization is not None:
                    headers["Authorization"] = authorization
                connection.request(
                    "GET", parts._replace(scheme="", netloc="", fragment="").geturl() or "/", None, headers
                )
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                raise CameraLostError(f"cannot reach {self._shown}: {error}") from error
            location = response.headers.get("Location") if response.status in {301, 302, 303, 307, 308} else None
            if location is None and response.status == http.client.OK:
                return connection, channel, response
            response.close()
            connection.close()
            if location is None:
                raise CameraLostError(f"{self._shown} answers {_explain(response)}")
            following = urlsplit(urljoin(parts.geturl(), location))
            if (following.scheme, following.hostname, following.port) != (parts.scheme, parts.hostname, parts.port):
                authorization = _find_authorization(following)  # a password is for the host that it was given for
            parts = following
        raise CameraLostError(f"{self._shown} redirects more than {_MAX_REDIRECTS} times")


class _Stream:
    """The body of a response that does not end.

    A plain one is read from the socket itself, straight to where the parser looks; the kernel is told how much of a
    picture is missing, and wakes this process once for all of it, or nearly. Chunks and TLS are taken apart by the
    standard library.

    Args:
        channel: The connection.
        response: Its headers are read.
    """

    def __init__(self, channel: socket.socket, response: http.client.HTTPResponse) -> None:
        self._socket = channel
        self._response = response
        self._is_plain = response.length is None and not response.chunked and not isinstance(channel, ssl.SSLSocket)
        self._is_begun = False
        self._low_water = 1
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)

    def read_into(self, parser: PartParser, timeout_s: float) -> bool:
        """Wait for more and give it to the parser; False at the end.

        Raises:
            TimeoutError: Nothing came.
            OSError, HTTPException: The connection is broken.
        """
        if self._is_plain and self._is_begun:
            return self._receive(parser, timeout_s)
        self._socket.settimeout(timeout_s)
        piece = self._response.read1(_PIECE_BYTES)  # at first what came with the headers
        parser.feed(piece)
        if self._is_plain:
            self._socket.setblocking(False)
            self._is_begun = True
        return bool(piece)

    def _receive(self, parser: PartParser, timeout_s: float) -> bool:
        low_water = min(parser.num_missing, _MAX_LOW_WATER_BYTES)
        if low_water != self._low_water:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low_water)
            self._low_water = low_water
        if not self._poll.poll(timeout_s * 1000):
            raise TimeoutError
        try:
            num_bytes = self._socket.recv_into(parser.room(_PIECE_BYTES))
        except BlockingIOError:  # it was readable, and is not: the kernel has dropped a damaged packet
            return True
        parser.filled(num_bytes)
        return num_bytes > 0


def _explain(response: http.client.HTTPResponse) -> str:
    if response.status != http.client.UNAUTHORIZED:
        return f"{response.status} {response.reason}"
    asked = response.headers.get("WWW-Authenticate", "")
    if asked and "basic" not in asked.lower():
        return f"401: it asks for {asked.split()[0]} authentication, only Basic is known"
    return "401: user name or password is missing or wrong (http://USER:PASSWORD@HOST/...)"


def _make_connection(parts: SplitResult) -> http.client.HTTPConnection:
    if parts.scheme.lower() not in {"http", "https"} or not parts.hostname:
        raise CameraLostError("redirected to no http:// or https:// address")
    kind = http.client.HTTPSConnection if parts.scheme.lower() == "https" else http.client.HTTPConnection
    return kind(parts.hostname, parts.port, timeout=_CONNECT_TIMEOUT_S)


def _find_authorization(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


def _check(request: CameraRequest) -> None:
    hint = "for example http://user:password@camera:8080/video"
    try:
        parts = urlsplit(request.source)
        is_good = parts.scheme.lower() in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        is_good = False
    if not is_good or any(ord(letter) <= 32 for letter in request.source):
        raise UsageError(f"no HTTP address: {show_source(request)!r}", hint=hint)


CAMERA = CameraKind(
    title="a network camera that sends JPEG pictures over HTTP",
    example="http://camera:8080/video",
    open=_Mjpeg,
    check=_check,
)
