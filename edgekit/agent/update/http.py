"""One GET that always ends: each wait, the headers, the whole and the redirects are bounded.

`http.client` bounds each single wait for bytes; a server that sends one byte in every such wait (slow loris) keeps it
for ever. Here the socket is told before each wait how much time is left.
"""

from __future__ import annotations

import http.client
import io
import ssl
import urllib.parse
import urllib.request
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from edgekit.agent.update.clock import Clock
from edgekit.agent.update.config import FetchLimits
from edgekit.agent.update.outcome import UpdateError, update_error
from edgekit.agent.update.patience import Patience

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from typing_extensions import Self

CHUNK_BYTES = 16 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNQUOTED = "!#$%&'()*+,/:;=?@[]~"
"""What may stand in an address as it is (RFC 3986, 2.2); % because it may be quoted already."""


class Answer:
    """An answer whose content has not been read yet. Close it, or use it as a context.

    Args:
        response: With the headers read.
        connection: That it comes over.
        url: That answered, after redirects.
        patience: Which ends it.
    """

    def __init__(
        self,
        response: http.client.HTTPResponse,
        connection: http.client.HTTPConnection,
        url: str,
        patience: Patience,
    ) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.getheaders()}
        self.url = url
        self._response = response
        self._connection = connection
        self._patience = patience

    def read(self) -> bytes:
        """Some of the content, at most `CHUNK_BYTES`; nothing at its end.

        Raises:
            UpdateError: "cut", "timed_out" or "too_slow".
        """
        try:
            content = self._response.read1(CHUNK_BYTES)
        except TimeoutError as error:
            raise update_error("timed_out", f"{self.url}: no byte for too long", url=self.url) from error
        except (OSError, http.client.HTTPException) as error:
            raise update_error(
                "cut", f"{self.url}: the connection broke off ({_reason(error)})", url=self.url
            ) from error
        if not content and self._response.length:
            message = f"{self.url}: the connection broke off {self._response.length:,} bytes before the end"
            raise update_error("cut", message, url=self.url)
        self._patience.note(len(content))
        return content

    def close(self) -> None:
        """Hang up."""
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Http:
    """GETs, each over a connection of its own.

    Args:
        clock: Where the time comes from.
        limits: What a server may cost.
        user_agent: How the board introduces itself.
    """

    def __init__(self, clock: Clock, limits: FetchLimits, user_agent: str = "edgekit") -> None:
        self._clock = clock
        self._limits = limits
        self._user_agent = user_agent
        self._tls: ssl.SSLContext | None = None

    def get(self, url: str, headers: Mapping[str, str] | None = None, until_s: float | None = None) -> Answer:
        """Ask for an address, following a few redirects.

        Args:
            url: http or https; what may not stand in an address is quoted.
            headers: More of them.
            until_s: On the clock's `monotonic_s`: when everything has to be there; None for no such moment.

        Raises:
            UpdateError: No answer; its outcome says why. An answer with a bad status is an answer.
        """
        place = urllib.parse.quote(url, safe=_UNQUOTED)
        for _ in range(self._limits.num_redirects + 1):
            answer = self._get_once(place, headers or {}, until_s)
            if answer.status not in _REDIRECTS:
                return answer
            answer.close()
            place = _redirected(place, answer.headers.get("location", ""))
        message = f"{url}: more than {self._limits.num_redirects} redirects, the last to {place[:200]}"
        raise update_error("redirect_loop", message, url=url)

    def _get_once(self, url: str, headers: Mapping[str, str], until_s: float | None) -> Answer:
        patience = Patience(self._clock, self._limits, until_s, url)
        connection, target = self._connection(url, min(patience.next_wait_s(), self._limits.connect_timeout_s))
        try:
            try:
                connection.connect()
            except (OSError, UnicodeError, http.client.HTTPException) as error:
                raise _connect_error(url, error) from error
            connection.sock = cast("socket.socket", _TimedSocket(connection.sock, patience.next_wait_s))
            return self._ask(connection, target, url, headers, patience)
        except UpdateError:
            connection.close()
            raise

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        target: str,
        url: str,
        headers: Mapping[str, str],
        patience: Patience,
    ) -> Answer:
        # Accept-Encoding: what is counted, resumed and hashed is what lies on the server
        asked = {"User-Agent": self._user_agent, "Accept-Encoding": "identity", "Connection": "close", **headers}
        try:
            connection.request("GET", target, headers=asked)
            response = connection.getresponse()
        except TimeoutError as error:
            raise update_error("timed_out", f"{url}: no answer in time", url=url) from error
        except http.client.RemoteDisconnected as error:
            raise update_error("cut", f"{url}: the server hung up without an answer", url=url) from error
        except http.client.HTTPException as error:
            raise update_error("bad_response", f"{url}: the answer is no HTTP ({_reason(error)})", url=url) from error
        except OSError as error:
            raise update_error("cut", f"{url}: the connection broke off ({_reason(error)})", url=url) from error
        patience.begin_content()
        return Answer(response, connection, url, patience)

    def _connection(self, url: str, timeout_s: float) -> tuple[http.client.HTTPConnection, str]:
        """A connection that is not made yet, through a proxy where the environment names one, and what to ask there."""
        try:
            parts = urllib.parse.urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise update_error("offline", f"{url[:200]!r} is no address: {error}", url=url) from error
        if host is None or parts.scheme not in {"http", "https"}:
            raise update_error("offline", f"{url[:200]!r} is no web address", url=url)
        path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        proxy = urllib.parse.urlsplit("" if urllib.request.proxy_bypass(host) else _proxies().get(parts.scheme, ""))
        if parts.scheme == "https":
            self._tls = self._tls or ssl.create_default_context()
            if proxy.hostname is None:
                return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._tls), path
            tunnel = http.client.HTTPSConnection(proxy.hostname, proxy.port, timeout=timeout_s, context=self._tls)
            tunnel.set_tunnel(host, port or 443)
            return tunnel, path
        if proxy.hostname is None:
            return http.client.HTTPConnection(host, port, timeout=timeout_s), path
        return http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=timeout_s), url.partition("#")[0]


class _TimedSocket:
    """The part of a socket that `http.client` uses, each wait as long as the patience lasts."""

    def __init__(self, sock: socket.socket, next_wait_s: Callable[[], float]) -> None:
        self._sock = sock
        self._next_wait_s = next_wait_s

    def makefile(self, _mode: str, *_: object) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._sock, self._next_wait_s))

    def sendall(self, content: bytes) -> None:
        self._sock.settimeout(self._next_wait_s())
        self._sock.sendall(content)

    def close(self) -> None:
        self._sock.close()


class _TimedReader(io.RawIOBase):
    """Bytes of a socket."""

    def __init__(self, sock: socket.socket, next_wait_s: Callable[[], float]) -> None:
        super().__init__()
        self._sock = sock
        self._raw = cast("io.RawIOBase", sock.makefile("rb", buffering=0))  # keeps the socket open until it is closed
        self._next_wait_s = next_wait_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - anything that bytes can be put into
        self._sock.settimeout(self._next_wait_s())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _proxies() -> dict[str, str]:
    return urllib.request.getproxies()


def _redirected(url: str, location: str) -> str:
    """Where a redirect leads.

    Raises:
        UpdateError: "redirect_refused".
    """
    try:
        place = urllib.parse.urljoin(url, location)
        scheme = urllib.parse.urlsplit(place).scheme
    except ValueError:
        place, scheme = location, ""
    allowed = {"https"} if url.startswith("https:") else {"http", "https"}
    if not location or scheme not in allowed:
        message = f"{url}: redirected to {place[:200]!r}, allowed are {' and '.join(sorted(allowed))}"
        raise update_error("redirect_refused", message, url=url)
    return urllib.parse.quote(place, safe=_UNQUOTED)


def _connect_error(url: str, error: Exception) -> UpdateError:
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "if this board's clock is wrong, no certificate is valid: set the time"
        return update_error("certificate", f"{url}: {error.verify_message}", url=url, hint=hint)
    return update_error("offline", f"{url}: cannot connect ({_reason(error)})", url=url)


def _reason(error: Exception) -> str:
    """In a few words, without quotation of what a server sent."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
