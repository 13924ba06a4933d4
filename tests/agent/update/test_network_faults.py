"""Bad networks and bad servers: each has a name, none is a loop without end, and what was paid for is kept."""

from __future__ import annotations

import datetime as dt
import email.utils
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgekit.agent.update.client import UpdateClient
from edgekit.agent.update.config import FetchLimits, UpdateConfig
from edgekit.agent.update.offers import Offer
from edgekit.agent.update.outcome import Outcome, UpdateError
from edgekit.core.errors import UsageError
from signed_updates import QUICK, FakeClock, SignedRepository, make_client
from update_server import Request, UpdateServer

Refused = Callable[..., Outcome]
SIZE = 600_000
PAGE = b"<!DOCTYPE html><html><body>Please log in to the hotel</body></html>"


@pytest.fixture
def ekb(repository_files: SignedRepository) -> Path:
    """A published bundle of about 600 kB."""
    return repository_files.release(1, model=random.Random(0).randbytes(SIZE))


@pytest.fixture
def offer(client: UpdateClient, server: UpdateServer, ekb: Path) -> Offer:
    offer = client.refresh()
    assert offer is not None
    assert offer.size_bytes == ekb.stat().st_size
    server.reset()
    return offer


def fetch_fails(client: UpdateClient, offer: Offer, folder: Path) -> Outcome:
    with pytest.raises(UpdateError) as caught:
        client.fetch(offer, folder)
    return caught.value.outcome


def answering(status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> Callable[[Request], bool]:
    def fault(request: Request) -> bool:
        request.answer(status, content, headers)
        return True

    return fault


def test_download_cut_ten_times_costs_hardly_more_than_the_file(
    client: UpdateClient, server: UpdateServer, offer: Offer, ekb: Path, tmp_path: Path
) -> None:
    def cut(request: Request) -> bool:
        if len(server.requests) > 10:
            return False
        request.serve(num_bytes=SIZE // 11)
        return True

    server.fault = cut

    path = client.fetch(offer, tmp_path / "down")

    assert path.read_bytes() == ekb.read_bytes()
    assert len(server.requests) == 11
    assert server.num_content_bytes <= 1.05 * offer.size_bytes
    assert [file.name for file in (tmp_path / "down").iterdir()] == [offer.file_name]


def test_download_cut_by_reset_ten_times_costs_hardly_more_than_the_file(
    client: UpdateClient, server: UpdateServer, offer: Offer, ekb: Path, tmp_path: Path
) -> None:
    """The connection ends without a goodbye, as when a route disappears."""

    def reset(request: Request) -> bool:
        if len(server.requests) > 10:
            return False
        content = (request.content or b"")[request.first_byte :]
        headers = {"Content-Range": f"bytes {request.first_byte}-{offer.size_bytes - 1}/{offer.size_bytes}"}
        request.send_response(206 if request.first_byte else 200)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.send(content[: SIZE // 11])
        request.connection.recv(1)  # until the client has it all and hangs up, or for a moment
        return True

    def with_linger(request: Request) -> bool:
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        request.connection.settimeout(0.3)
        return reset(request)

    server.fault = with_linger

    path = client.fetch(offer, tmp_path / "down")

    assert path.read_bytes() == ekb.read_bytes()
    assert server.num_content_bytes <= 1.05 * offer.size_bytes


def test_download_goes_on_in_another_process_where_it_was(
    client: UpdateClient, server: UpdateServer, offer: Offer, ekb: Path, clock: FakeClock, tmp_path: Path
) -> None:
    server.fault = lambda request: _cut_then_404(server, request)
    assert fetch_fails(client, offer, tmp_path / "down").name == "not_found"
    server.fault = None

    later = UpdateClient(client._config, tmp_path / "state", clock)
    path = later.fetch(offer, tmp_path / "down")

    assert path.read_bytes() == ekb.read_bytes()
    assert server.requests[-1][1] == f"bytes={SIZE // 2}-"
    assert server.num_content_bytes <= 1.05 * offer.size_bytes


def _cut_then_404(server: UpdateServer, request: Request) -> bool:
    if len(server.requests) > 1:
        request.answer(404, b"")
    else:
        request.serve(num_bytes=SIZE // 2)
    return True


def test_download_starts_anew_when_a_power_cut_left_zeros(
    client: UpdateClient, offer: Offer, ekb: Path, tmp_path: Path
) -> None:
    part = tmp_path / "down" / f".{offer.sha256}.part"
    part.parent.mkdir()
    part.write_bytes(bytes(SIZE // 4))

    assert client.fetch(offer, tmp_path / "down").read_bytes() == ekb.read_bytes()


def test_download_asks_for_nothing_when_the_file_is_there(
    client: UpdateClient, server: UpdateServer, offer: Offer, tmp_path: Path
) -> None:
    client.fetch(offer, tmp_path / "down")
    server.reset()

    client.fetch(offer, tmp_path / "down")

    assert server.requests == []


def test_download_removes_unfinished_files_of_other_releases(
    client: UpdateClient, offer: Offer, tmp_path: Path
) -> None:
    old = tmp_path / "down" / f".{'0' * 64}.part"
    old.parent.mkdir()
    old.write_bytes(b"old")

    client.fetch(offer, tmp_path / "down")

    assert not old.exists()


def test_download_without_ranges_starts_from_the_beginning_within_the_budget(
    client: UpdateClient, server: UpdateServer, offer: Offer, ekb: Path, tmp_path: Path
) -> None:
    def no_ranges(request: Request) -> bool:
        request.answer(200, request.content or b"", num_bytes=SIZE // 3 if len(server.requests) == 1 else None)
        return True

    server.fault = no_ranges

    assert client.fetch(offer, tmp_path / "down").read_bytes() == ekb.read_bytes()


def test_download_that_always_starts_from_the_beginning_ends_at_the_byte_budget(
    client: UpdateClient, server: UpdateServer, offer: Offer, tmp_path: Path
) -> None:
    def no_ranges(request: Request) -> bool:
        request.answer(200, request.content or b"", num_bytes=SIZE - 1000 + len(server.requests))
        return True

    server.fault = no_ranges

    assert fetch_fails(client, offer, tmp_path / "down").name == "byte_budget"
    assert client.status.num_bytes < 2.2 * offer.size_bytes


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
def test_status_has_a_name_for_metadata_and_bundles(
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
        server.fault = lambda request: not request.path.endswith("root.json") and answering(status, b"", headers)(request)
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
            request.answer(206, b"x" * 10, {"Content-Range": f"bytes {request.first_byte}-{request.first_byte + 9}/9999999"})
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


def test_slow_loris_in_the_headers_ends(
    server: UpdateServer, repository_files: SignedRepository, tmp_path: Path, clock: FakeClock
) -> None:
    """A header byte now and then, always in time for the wait for one byte."""

    def fault(request: Request) -> bool:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not request.server.closing.wait(0.02):
            request.wfile.write(b"x")
            clock.passed_s += 5
        return True

    server.fault = fault

    assert _slow(server, repository_files, tmp_path, clock).name == "too_slow"


def test_slow_retrieval_of_metadata_ends(
    server: UpdateServer, repository_files: SignedRepository, tmp_path: Path, clock: FakeClock
) -> None:
    server.fault = lambda request: _drip(request, clock)

    assert _slow(server, repository_files, tmp_path, clock).name == "too_slow"


def test_slow_retrieval_of_a_bundle_ends_and_keeps_what_came(
    server: UpdateServer, client: UpdateClient, offer: Offer, ekb: Path, clock: FakeClock, tmp_path: Path
) -> None:
    server.fault = lambda request: _drip(request, clock)

    assert fetch_fails(client, offer, tmp_path / "down").name == "too_slow"

    server.fault = None
    assert client.fetch(offer, tmp_path / "down").read_bytes() == ekb.read_bytes()
    first_bytes = [asked for _, asked in server.requests]
    assert first_bytes[0] is None
    assert first_bytes[1] is not None


def _drip(request: Request, clock: FakeClock) -> bool:
    """A byte now and then; the clock runs ahead, so that nobody has to wait for real."""
    content = request.content or b"{" * 1000
    request.send_response(200)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    for position in range(len(content)):
        request.send(content[position : position + 1])
        clock.passed_s += 5
        if request.server.closing.wait(0.02):
            break
    return True


def _slow(server: UpdateServer, repository: SignedRepository, tmp_path: Path, clock: FakeClock) -> Outcome:
    client = make_client(server.url, tmp_path / "slow", clock, repository.pinned)
    with pytest.raises(UpdateError) as caught:
        client.refresh()
    return caught.value.outcome


def test_server_that_never_answers_times_out(
    server: UpdateServer, repository_files: SignedRepository, clock: FakeClock, tmp_path: Path
) -> None:
    limits = msgspec.structs.replace(QUICK, silence_s=0.3)

    def fault(request: Request) -> bool:
        request.server.closing.wait(30)
        return True

    server.fault = fault
    client = make_client(server.url, tmp_path / "quiet", clock, repository_files.pinned, limits)

    with pytest.raises(UpdateError) as caught:
        client.refresh()

    assert caught.value.outcome.name == "timed_out"


def test_server_that_goes_silent_in_a_bundle_times_out_after_a_few_attempts(
    server: UpdateServer, repository_files: SignedRepository, ekb: Path, clock: FakeClock, tmp_path: Path
) -> None:
    client = make_client(
        server.url, tmp_path / "quiet", clock, repository_files.pinned, msgspec.structs.replace(QUICK, silence_s=0.3)
    )
    offer = client.refresh()
    assert offer is not None
    server.reset()

    def fault(request: Request) -> bool:
        request.send_response(206 if request.first_byte else 200)
        request.send_header("Content-Length", str(offer.size_bytes - request.first_byte))
        request.send_header(
            "Content-Range", f"bytes {request.first_byte}-{offer.size_bytes - 1}/{offer.size_bytes}"
        )
        request.end_headers()
        request.server.closing.wait(2)
        return True

    server.fault = fault

    outcome = fetch_fails(client, offer, tmp_path / "down")

    assert outcome.name == "timed_out"
    assert len(server.requests) == QUICK.num_stalls
    assert len(clock.waits) == QUICK.num_stalls - 1
    assert ekb.exists()


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
