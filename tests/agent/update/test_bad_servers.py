"""Bad servers: each has a name, and none is a loop without end."""

from __future__ import annotations

import datetime as dt
import email.utils
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.agent.update.client import UpdateClient
from edgekit.agent.update.config import FetchLimits, UpdateConfig
from edgekit.agent.update.offers import Offer
from edgekit.agent.update.outcome import Outcome, UpdateError
from edgekit.core.errors import UsageError
from signed_updates import BUNDLE_BYTES, QUICK, FakeClock, SignedRepository, fetch_fails, make_client
from update_server import Request, UpdateServer, answering

Refused = Callable[..., Outcome]
SIZE = BUNDLE_BYTES
PAGE = b"<!DOCTYPE html><html><body>Please log in to the hotel</body></html>"


@pytest.mark.parametrize(
    ("status", "headers", "name"),
    [
        (401, {}, "forbidden"),
        (403, {}, "forbidden"),
        (404, {}, "not_found"),
        (410, {}, "gone"),
        (418, {}, "http_error"),
        (429, {"Retry-After": "77"}, "rate_limited"),
        (500, {}, "server_error"),
        (502, {}, "server_error"),
        (503, {"Retry-After": "77"}, "server_error"),
        (511, {}, "captive_portal"),
        (302, {}, "redirect_refused"),
        (302, {"Location": "ftp://example.org/"}, "redirect_refused"),
        (302, {"Location": "file:///etc/passwd"}, "redirect_refused"),
        (200, {"Content-Length": "17"}, "changed_length"),
        (206, {"Content-Range": "bytes 5-9/600000"}, "wrong_range"),
        (416, {}, "changed_length"),
    ],
)
def test_status_has_a_name_for_metadata_and_bundles(  # noqa: PLR0917 - pytest calls it by keyword
    status: int,
    headers: dict[str, str],
    name: str,
    client: UpdateClient,
    server: UpdateServer,
    offer: Offer,
    refused: Refused,
    clock: FakeClock,
    tmp_path: Path,
) -> None:
    server.fault = answering(status, b"x" * int(headers.get("Content-Length", "0")), headers)

    outcome = fetch_fails(client, offer, tmp_path / "down")

    assert outcome.name == name
    assert outcome.retry_after_s == (77 if "Retry-After" in headers else None)
    assert len(server.requests) <= QUICK.num_stalls
    clock.passed_s += 100
    if status not in {200, 206, 416}:
        server.fault = lambda request: (
            not request.path.endswith("root.json") and answering(status, b"", headers)(request)
        )
        assert refused().name == name


def test_rate_limited_server_is_left_alone_as_long_as_it_asked(
    client: UpdateClient, server: UpdateServer, clock: FakeClock, refused: Refused
) -> None:
    server.fault = answering(429, b"", {"Retry-After": "120"})
    assert refused().retry_after_s == 120
    server.reset()
    server.fault = None
    clock.passed_s += 50

    outcome = refused()

    assert (outcome.name, outcome.retry_after_s) == ("rate_limited", 70)
    assert server.requests == []
    clock.passed_s += 71
    client.refresh()
    assert server.requests


def test_retry_after_date_is_held_against_the_servers_own_date(server: UpdateServer, refused: Refused) -> None:
    moment = dt.datetime(2050, 1, 1, tzinfo=dt.timezone.utc)
    later = email.utils.format_datetime(moment + dt.timedelta(seconds=90), usegmt=True)

    def fault(request: Request) -> bool:
        request.send_response_only(429)
        request.send_header("Date", email.utils.format_datetime(moment, usegmt=True))
        request.send_header("Retry-After", later)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return True

    server.fault = fault

    assert refused().retry_after_s == 90


def test_resumed_download_of_a_wrong_range_is_refused(
    client: UpdateClient, server: UpdateServer, offer: Offer, tmp_path: Path
) -> None:
    def fault(request: Request) -> bool:
        if request.first_byte == 0:
            request.serve(num_bytes=SIZE // 2)
        else:
            request.serve(headers={"Content-Range": f"bytes 7-{SIZE - 1}/{offer.size_bytes}"})
        return True

    server.fault = fault

    assert fetch_fails(client, offer, tmp_path / "down").name == "wrong_range"


def test_resumed_download_of_a_file_of_another_length_is_refused(
    client: UpdateClient, server: UpdateServer, offer: Offer, tmp_path: Path
) -> None:
    def fault(request: Request) -> bool:
        if request.first_byte == 0:
            request.serve(num_bytes=SIZE // 2)
        else:
            request.answer(
                206, b"x" * 10, {"Content-Range": f"bytes {request.first_byte}-{request.first_byte + 9}/9999999"}
            )
        return True

    server.fault = fault

    assert fetch_fails(client, offer, tmp_path / "down").name == "changed_length"


def test_resume_asks_for_the_same_file_by_its_tag(
    client: UpdateClient, server: UpdateServer, offer: Offer, tmp_path: Path
) -> None:
    seen: list[str | None] = []

    def fault(request: Request) -> bool:
        seen.append(request.headers.get("If-Range"))
        if len(seen) > 1:
            return False
        request.serve(num_bytes=SIZE // 2)
        return True

    server.fault = fault

    client.fetch(offer, tmp_path / "down")

    assert seen == [None, f'"{offer.size_bytes}"']


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_captive_portal_is_named(
    kind: str, client: UpdateClient, server: UpdateServer, offer: Offer, refused: Refused, tmp_path: Path
) -> None:
    server.fault = answering(200, PAGE, {"Content-Type": kind})

    assert refused().name == "captive_portal"
    outcome = fetch_fails(client, offer, tmp_path / "down")
    assert outcome.name == ("captive_portal" if kind.startswith("text/html") else "changed_length")
    assert not (tmp_path / "down" / offer.file_name).exists()


def test_captive_portal_behind_a_redirect_is_named(server: UpdateServer, refused: Refused) -> None:
    def fault(request: Request) -> bool:
        if request.path == "/login":
            request.answer(200, PAGE, {"Content-Type": "text/html"})
        else:
            request.answer(302, b"", {"Location": "/login"})
        return True

    server.fault = fault

    assert refused().name == "captive_portal"


@pytest.mark.parametrize("location", ["/again", "", "?x", "//127.0.0.1:1/"])
def test_redirect_loop_ends(
    location: str, client: UpdateClient, server: UpdateServer, offer: Offer, tmp_path: Path
) -> None:
    def fault(request: Request) -> bool:
        request.answer(302, b"", {"Location": location or request.path})
        return True

    server.fault = fault

    outcome = fetch_fails(client, offer, tmp_path / "down")

    assert outcome.name in {"redirect_loop", "offline"}
    assert len(server.requests) <= (QUICK.num_redirects + 1) * QUICK.num_stalls


def test_redirect_to_another_place_is_followed(
    client: UpdateClient, server: UpdateServer, offer: Offer, tmp_path: Path
) -> None:
    def fault(request: Request) -> bool:
        if request.path.startswith("/cdn/"):
            request.path = request.path.removeprefix("/cdn")
            return False
        request.answer(307, b"", {"Location": f"{server.url}/cdn{request.path}"})
        return True

    server.fault = fault

    assert client.fetch(offer, tmp_path / "down").is_file()


def test_many_tiny_pieces_are_no_progress(
    client: UpdateClient, server: UpdateServer, offer: Offer, tmp_path: Path
) -> None:
    """A server that gives a byte and hangs up could otherwise be asked half a million times."""

    def fault(request: Request) -> bool:
        request.serve(num_bytes=1)
        return True

    server.fault = fault

    assert fetch_fails(client, offer, tmp_path / "down").name == "cut"
    assert len(server.requests) == QUICK.num_stalls


def test_answer_that_is_no_http_is_named(server: UpdateServer, refused: Refused) -> None:
    def fault(request: Request) -> bool:
        request.wfile.write(b"220 smtp.example.org ESMTP\r\n")
        return True

    server.fault = fault

    assert refused().name == "bad_response"


def test_truncated_metadata_is_named(server: UpdateServer, refused: Refused) -> None:
    def fault(request: Request) -> bool:
        if not request.path.endswith("timestamp.json"):
            return False
        request.serve(num_bytes=100)
        return True

    server.fault = fault

    assert refused().name == "cut"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid", "http://" + "x" * 300])
def test_unreachable_server_is_offline(url: str, repository_files: SignedRepository, tmp_path: Path) -> None:
    client = make_client(url, tmp_path / "state", FakeClock(), repository_files.pinned)

    with pytest.raises(UpdateError) as caught:
        client.refresh()

    assert caught.value.outcome.name == "offline"
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("url", ["http://[::1", "http://a:b", "ftp://example.org", "/srv/www", "http://"])
def test_address_that_is_none_is_wrong_usage(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="address"):
        UpdateClient(UpdateConfig(metadata_url=url, targets_url="http://a", board="host_cpu"), tmp_path)


def test_too_much_metadata_in_all_is_refused(
    server: UpdateServer, repository_files: SignedRepository, clock: FakeClock, tmp_path: Path
) -> None:
    limits = FetchLimits(metadata_bytes=500)
    client = make_client(server.url, tmp_path / "small", clock, repository_files.pinned, limits)

    with pytest.raises(UpdateError) as caught:
        client.refresh()

    assert caught.value.outcome.name == "too_large"


def test_full_disk_is_named_before_a_byte_is_asked_for(
    client: UpdateClient, server: UpdateServer, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        f_bavail, f_frsize = 10, 4096

    def statvfs(_path: Any) -> Full:
        return Full()

    monkeypatch.setattr("os.statvfs", statvfs)

    assert fetch_fails(client, offer, tmp_path / "down").name == "disk_full"
    assert server.requests == []
