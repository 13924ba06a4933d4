"""Downloads over bad networks: what was paid for is kept, and the whole costs a known number of bytes."""

from __future__ import annotations

import socket
from pathlib import Path

from edgekit.agent.update.client import UpdateClient
from edgekit.agent.update.offers import Offer
from signed_updates import BUNDLE_BYTES, FakeClock, fetch_fails
from update_server import Request, UpdateServer

SIZE = BUNDLE_BYTES


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
