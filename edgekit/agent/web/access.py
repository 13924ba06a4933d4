"""Who may see what: pure rules over the headers of a request.

The server shows a camera. On loopback the danger is a page from elsewhere that the browser on this machine runs: it
can point its own name at 127.0.0.1 (DNS rebinding) or embed our pictures. On a network it is everybody else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from edgekit.agent.web.config import is_loopback

OPEN_PATHS = frozenset(("/healthz", "/readyz", "/page.css", "/icon.svg"))
"""Seen without a token: health for whoever restarts the agent, and what the page that asks for a token is made of."""

Verdict: TypeAlias = Literal["pass", "wrong_host", "foreign_site", "sign_in", "no_token"]
"""`sign_in`: the token came in the address; it is to be moved into a cookie."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules look at.

    Args:
        path: Without the query.
        query: Behind the question mark.
        headers: Names in lower case; the last of equal names.
    """

    path: str
    query: str
    headers: Mapping[str, str]


class AccessRules(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one server.

    Args:
        token: None when nobody needs one.
        cookie: Name of the cookie; holds the port, because a browser gives cookies to all ports of a host.
        allowed_hosts: Names that the Host header may hold beside those of loopback; None: any.
    """

    token: str | None
    cookie: str
    allowed_hosts: Sequence[str] | None


def judge(request: Request, rules: AccessRules) -> Verdict:
    """Decide about a request."""
    host = request.headers.get("host")
    if rules.allowed_hosts is not None and host is not None and not is_own_host(host, rules.allowed_hosts):
        return "wrong_host"
    if is_foreign(request.headers):
        return "foreign_site"
    if rules.token is None:
        return "pass"
    if _is_equal(dict(parse_qsl(request.query)).get("token"), rules.token):
        return "sign_in"
    if request.path in OPEN_PATHS or _is_known(request.headers, rules):
        return "pass"
    return "no_token"


def is_own_host(header: str, allowed_hosts: Sequence[str]) -> bool:
    """Whether a Host header names this machine: a loopback address or name, whatever the port, or an allowed name.

    >>> is_own_host("localhost:8080", ()), is_own_host("[::1]:80", ()), is_own_host("127.0.0.1", ())
    (True, True, True)
    >>> is_own_host("evil.example:8080", ()), is_own_host("kitchen.local", ("Kitchen.local",))
    (False, True)
    """
    matched = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^:\[\]]*))(?::\d*)?", header.strip())
    if matched is None:
        return False
    name = (matched[1] or matched[2] or "").lower().rstrip(".")
    return (
        name == "localhost" or is_loopback(name) or name in {allowed.lower().rstrip(".") for allowed in allowed_hosts}
    )


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Whether another site's page asks for this, other than by a link to it (Fetch Metadata)."""
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"


def session_value(token: str) -> str:
    """What the cookie holds: proof that the browser once knew the token, from which it cannot be computed."""
    return hmac.new(token.encode(), b"edgekit web session", hashlib.sha256).hexdigest()


def sign_in_headers(request: Request, rules: AccessRules) -> list[tuple[str, str]]:
    """Headers that set the cookie and send the browser to the same address without the token."""
    rest = urlencode([(key, value) for key, value in parse_qsl(request.query) if key != "token"])
    location = own_location(request.path) + (f"?{rest}" if rest else "")
    value = session_value(rules.token or "")
    cookie = f"{rules.cookie}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"
    return [("location", location), ("set-cookie", cookie)]


def own_location(path: str) -> str:
    """A path as it may stand in a header or a form; never one that a browser reads as another host.

    >>> own_location("//evil.example/a b")
    '/evil.example/a%20b'
    """
    return "/" + quote(path.lstrip("/\\"), safe="/")


def _is_known(headers: Mapping[str, str], rules: AccessRules) -> bool:
    if rules.token is None:
        return True
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _is_equal(credentials.strip(), rules.token)
    if scheme.lower() == "basic":
        return _is_equal(_password(credentials), rules.token)
    return any(_is_equal(value, session_value(rules.token)) for value in _cookies(headers, rules.cookie))


def _password(credentials: str) -> str | None:
    """The password of basic authentication, for players that know nothing else; the user's name is free."""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None


def _cookies(headers: Mapping[str, str], name: str) -> list[str]:
    pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
    return [value for key, _, value in pairs if key == name]


def _is_equal(given: str | None, expected: str) -> bool:
    """Compare in a time that does not tell how much was right."""
    return given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
