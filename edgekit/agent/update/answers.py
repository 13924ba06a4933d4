"""What a server's answer means: pure rules over status, headers and the first bytes."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping

import msgspec

from edgekit.agent.update.outcome import Outcome, OutcomeName

MAX_RETRY_AFTER_S = 86_400.0
"""A server that asks to wait for years would freeze the board on what it has."""

_NAMED: dict[int, OutcomeName] = {
    401: "forbidden",
    403: "forbidden",
    404: "not_found",
    407: "forbidden",
    410: "gone",
    429: "rate_limited",
    511: "captive_portal",  # RFC 6585, 6: Network Authentication Required
}
_RANGE = re.compile(r"bytes (?P<first>[0-9]{1,16})-(?P<last>[0-9]{1,16})/(?P<length>[0-9]{1,16}|\*)")


class ContentRange(msgspec.Struct, frozen=True, kw_only=True):
    """Which bytes a partial answer holds.

    Args:
        first: Offset of the first.
        last: Offset of the last.
        length: Of the whole; None where it is not told.
    """

    first: int
    last: int
    length: int | None


def status_outcome(status: int, headers: Mapping[str, str], url: str) -> Outcome:
    """The outcome of a status that is no success.

    Args:
        status: Of the answer.
        headers: By lower-case names.
        url: Which answered.
    """
    name = _NAMED.get(status, "server_error" if 500 <= status < 600 else "http_error")
    wait_s = retry_after_s(headers) if status in {429, 503} else None
    told = "" if wait_s is None else f", try again in {wait_s:.0f} s"
    return Outcome(name=name, message=f"{url}: HTTP {status}{told}", url=url, retry_after_s=wait_s)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long a server asks to wait, seconds, at most a day; None when it does not ask, or in no known form.

    A date is held against the server's own `Date`, because the board's clock may be wrong.

    >>> retry_after_s({"retry-after": "120"})
    120.0
    >>> retry_after_s({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT", "date": "Thu, 01 Jan 1970 00:00:00 GMT"})
    60.0
    """
    asked = headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdecimal():
        return min(float(asked[:9]), MAX_RETRY_AFTER_S)
    try:
        until = email.utils.parsedate_to_datetime(asked)
        now = email.utils.parsedate_to_datetime(headers.get("date", ""))
        wait_s = (until - now).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)


def is_web_page(headers: Mapping[str, str], first_bytes: bytes) -> bool:
    """Whether an answer is a page for people: neither metadata nor bundles begin like one.

    >>> is_web_page({"content-type": "text/html; charset=utf-8"}, b"")
    True
    >>> is_web_page({}, b" <!DOCTYPE html>")
    True
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in {"text/html", "application/xhtml+xml"} or first_bytes.lstrip()[:1] == b"<"


def portal_outcome(url: str) -> Outcome:
    """The outcome of a page for people where none belongs."""
    message = f"{url}: a web page came instead: the network asks for a login, or the address is wrong"
    return Outcome(name="captive_portal", message=message, url=url)


def content_length(headers: Mapping[str, str]) -> int | None:
    """Stated length of the content, bytes; None when it is not stated.

    >>> content_length({"content-length": "17"})
    17
    """
    stated = headers.get("content-length", "").strip()
    return int(stated[:16]) if stated.isascii() and stated.isdecimal() else None


def content_range(headers: Mapping[str, str]) -> ContentRange | None:
    """Which bytes a partial answer says that it holds; None when it says nothing that can be read.

    >>> content_range({"content-range": "bytes 5-9/10"})
    ContentRange(first=5, last=9, length=10)
    """
    match = _RANGE.fullmatch(headers.get("content-range", "").strip())
    if match is None:
        return None
    length = None if match["length"] == "*" else int(match["length"])
    return ContentRange(first=int(match["first"]), last=int(match["last"]), length=length)
