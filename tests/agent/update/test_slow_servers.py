"""Servers that take their time: slow loris, slow retrieval, silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgekit.agent.update.client import UpdateClient
from edgekit.agent.update.offers import Offer
from edgekit.agent.update.outcome import Outcome, UpdateError
from signed_updates import BUNDLE_BYTES, QUICK, FakeClock, SignedRepository, fetch_fails, make_client
from update_server import Request, UpdateServer

Refused = Callable[..., Outcome]
SIZE = BUNDLE_BYTES


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
        request.send_header("Content-Range", f"bytes {request.first_byte}-{offer.size_bytes - 1}/{offer.size_bytes}")
        request.end_headers()
        request.server.closing.wait(2)
        return True

    server.fault = fault

    outcome = fetch_fails(client, offer, tmp_path / "down")

    assert outcome.name == "timed_out"
    assert len(server.requests) == QUICK.num_stalls
    assert len(clock.waits) == QUICK.num_stalls - 1
    assert ekb.exists()
