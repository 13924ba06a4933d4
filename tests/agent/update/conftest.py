"""A repository, a server that shows it, and a board that trusts it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.agent.update.client import UpdateClient
from edgekit.agent.update.offers import Offer
from edgekit.agent.update.outcome import Outcome, UpdateError
from signed_updates import BUNDLE_BYTES, FakeClock, SignedRepository, make_client
from update_server import UpdateServer, serving


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def repository_files(tmp_path: Path) -> SignedRepository:
    return SignedRepository(tmp_path / "www")


@pytest.fixture
def server(repository_files: SignedRepository) -> Iterator[UpdateServer]:
    with serving(repository_files.folder) as server:
        yield server


@pytest.fixture
def client(server: UpdateServer, repository_files: SignedRepository, clock: FakeClock, tmp_path: Path) -> UpdateClient:
    return make_client(server.url, tmp_path / "state", clock, repository_files.pinned)


@pytest.fixture
def refused(client: UpdateClient) -> Callable[..., Outcome]:
    """Refresh, which must fail; gives how."""

    def refresh(**options: Any) -> Outcome:
        with pytest.raises(UpdateError) as caught:
            client.refresh(**options)
        assert client.status.outcome == caught.value.outcome
        return caught.value.outcome

    return refresh


@pytest.fixture
def ekb(repository_files: SignedRepository) -> Path:
    """A published bundle of about 600 kB."""
    return repository_files.release(1, model=random.Random(0).randbytes(BUNDLE_BYTES))


@pytest.fixture
def offer(client: UpdateClient, server: UpdateServer, ekb: Path) -> Offer:
    offer = client.refresh()
    assert offer is not None
    assert offer.size_bytes == ekb.stat().st_size
    server.reset()
    return offer
