"""The door: every request passes here, and every response gets the headers that keep a browser in bounds."""

from __future__ import annotations

import html
from importlib import resources

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgekit.agent.web.access import AccessRules, Request, Verdict, judge, own_location, sign_in_headers

SECURITY_HEADERS = {
    # Nothing but our own files: no script of somebody else's runs here, whatever a label says.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}

_REFUSALS: dict[Verdict, tuple[int, str]] = {
    "wrong_host": (421, "this name is not one of this machine's; ask for 127.0.0.1, or list it in allowed_hosts"),
    "foreign_site": (403, "another site's page may not embed this"),
    "no_token": (401, "token needed: header Authorization: Bearer TOKEN, or once ?token=TOKEN in a browser"),
}


class Gate:
    """ASGI middleware: refuses, signs in, or lets through.

    Args:
        app: What lies behind.
        rules: Who may pass.
    """

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge one request."""
        if scope["type"] != "http":
            return

        async def send_bounded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                message = {**message, "headers": headers.raw}
            await send(message)

        request = Request(
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        )
        verdict = judge(request, self._rules)
        app = self._app if verdict == "pass" else self._answer(verdict, request)
        await app(scope, receive, send_bounded)

    def _answer(self, verdict: Verdict, request: Request) -> Response:
        if verdict == "sign_in":
            return Response(status_code=303, headers=dict(sign_in_headers(request, self._rules)))
        status, reason = _REFUSALS[verdict]
        headers = {"www-authenticate": "Bearer"} if status == 401 else None
        if status == 401 and "text/html" in request.headers.get("accept", ""):
            was_tried = "token=" in request.query
            return HTMLResponse(sign_in_page(request.path, was_tried=was_tried), status_code=status, headers=headers)
        body = msgspec.json.encode({"error": reason})
        return Response(body, status_code=status, media_type="application/json", headers=headers)


def sign_in_page(path: str, *, was_tried: bool) -> str:
    """Write the page that asks for the token; it leads back to `path`."""
    template = (resources.files("edgekit.agent.web") / "page" / "sign_in.html").read_text(encoding="utf-8")
    complaint = "That was not the token." if was_tried else ""
    return template.replace("{{path}}", html.escape(own_location(path))).replace("{{complaint}}", complaint)
