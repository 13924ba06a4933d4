"""Metadata for python-tuf, over our own HTTP: with a deadline, a byte budget, and a memory of the last file."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator

import msgspec
from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient import FetcherInterface

from edgekit.agent.update.answers import is_web_page, portal_outcome, status_outcome
from edgekit.agent.update.clock import Clock
from edgekit.agent.update.config import FetchLimits
from edgekit.agent.update.http import Answer, Http
from edgekit.agent.update.outcome import UpdateError, update_error

_NO_NEWER_ROOT = frozenset({403, 404})
"""A server without the next root says so (a bucket without permission to list says 403); python-tuf then goes on."""


class Fetched(msgspec.Struct, kw_only=True):
    """The file that was asked for last.

    Args:
        role: Whose metadata it is.
        url: Where it lies.
        content: What came of it so far.
    """

    role: str
    url: str
    content: bytearray


class FetchError(DownloadError):
    """A download that failed, for python-tuf to pass on.

    Args:
        cause: Why.
    """

    def __init__(self, cause: UpdateError) -> None:
        super().__init__(cause.message)
        self.cause = cause


class MetadataFetcher(FetcherInterface):
    """Downloads the metadata of one refresh.

    Args:
        http: What asks.
        clock: For the deadline.
        limits: What all of it together may cost.
    """

    def __init__(self, http: Http, clock: Clock, limits: FetchLimits) -> None:
        self._http = http
        self._limits = limits
        self._until_s = clock.monotonic_s() + limits.metadata_s
        self._num_bytes = 0
        self.last: Fetched | None = None
        self._answer: Answer | None = None

    def hang_up(self) -> None:
        """End the last download, which python-tuf leaves where it is when it has had enough."""
        if self._answer is not None:
            self._answer.close()

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.last = Fetched(role=role_of(url), url=url, content=bytearray())
        try:
            yield from self._chunks(url, self.last.content)
        except UpdateError as error:
            raise FetchError(error) from error

    def _chunks(self, url: str, kept: bytearray) -> Iterator[bytes]:
        with self._http.get(url, until_s=self._until_s) as answer:
            self._answer = answer
            if answer.status in _NO_NEWER_ROOT and role_of(url) == "root":
                raise DownloadHTTPError(f"{url}: HTTP {answer.status}", answer.status)
            if answer.status != 200:
                raise UpdateError(status_outcome(answer.status, answer.headers, url))
            while content := answer.read():
                if not kept and is_web_page(answer.headers, content):
                    raise UpdateError(portal_outcome(answer.url))
                self._num_bytes += len(content)
                if self._num_bytes > self._limits.metadata_bytes:
                    raise update_error("too_large", f"{url}: more metadata than any repository has", url=url)
                kept += content
                yield content


def role_of(url: str) -> str:
    """Which role's metadata an address names.

    >>> role_of("https://example.org/metadata/12.snapshot.json")
    'snapshot'
    >>> role_of("https://example.org/metadata/timestamp.json")
    'timestamp'
    """
    name = url.partition("?")[0].rpartition("/")[2].removesuffix(".json")
    version, dot, role = name.partition(".")
    return urllib.parse.unquote(role if dot and version.isdecimal() else name)
