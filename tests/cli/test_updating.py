"""`edgekit agent update`: from a signed list on a web server to a model that serves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from command_line import Outcome, assert_fails, edgekit
from edgekit.agent.update.client import PINNED_ROOT
from edgekit.bundle.reading import open_bundle
from install_bundles import rewrite_bundle, write_tiny_bundle
from signed_updates import SignedRepository
from update_server import UpdateServer, serving

QUICK = ("--no-camera", "--soak", "0")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return write_tiny_bundle(folder, 1), write_tiny_bundle(folder, 2)


@pytest.fixture
def repository_of_updates(tmp_path: Path, bundles: tuple[Path, Path]) -> SignedRepository:
    """Release 1 for this machine, signed now."""
    made = SignedRepository(tmp_path / "www", dt.datetime.now(dt.timezone.utc).replace(microsecond=0))
    made.add(bundles[0], board="host_cpu")
    made.publish()
    return made


@pytest.fixture
def server(repository_of_updates: SignedRepository) -> Iterator[UpdateServer]:
    with serving(repository_of_updates.folder) as running:
        yield running


@pytest.fixture
def state(tmp_path: Path, repository_of_updates: SignedRepository, bundles: tuple[Path, Path]) -> Path:
    """A board that trusts the root, and has release 1."""
    folder = tmp_path / "state"
    (folder / "update").mkdir(parents=True)
    (folder / "update" / PINNED_ROOT).write_bytes(repository_of_updates.pinned)
    assert edgekit("agent", "install", bundles[0], "--state", folder, *QUICK).code == 0
    return folder


def update(state: Path, server: UpdateServer, *options: str) -> Outcome:
    return edgekit("agent", "update", "--state", state, "--url", server.url, *QUICK, *options)


def fetched(server: UpdateServer) -> list[str]:
    """Bundles that were asked for."""
    return [path for path in server.paths() if path.endswith(".ekb")]


def test_newest_release_is_fetched_and_installed_once(
    state: Path, server: UpdateServer, repository_of_updates: SignedRepository, bundles: tuple[Path, Path]
) -> None:
    assert update(state, server).out.strip() == "nothing newer is published"
    repository_of_updates.add(bundles[1], board="host_cpu")
    repository_of_updates.publish()
    looked = update(state, server, "--check", "--json")
    assert (looked.document["offer"]["release"], looked.document["install"]) == (2, None)
    assert fetched(server) == []

    done = update(state, server, "--json")
    assert done.code == 0, done
    assert done.document["install"]["result"] == "committed"
    assert done.document["install"]["serving"] == open_bundle(bundles[1]).digest
    assert done.document["num_bytes"] == bundles[1].stat().st_size
    assert list((state / "update" / "downloads").iterdir()) == []
    again = update(state, server, "--json")
    assert (again.code, again.document["offer"]) == (0, None)
    assert len(fetched(server)) == 1


def test_release_that_fails_the_gate_is_fetched_once(
    state: Path,
    server: UpdateServer,
    repository_of_updates: SignedRepository,
    bundles: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    costly = rewrite_bundle(
        bundles[1],
        tmp_path / "costly.ekb",
        lambda manifest: msgspec.structs.replace(
            manifest, budgets=msgspec.structs.replace(manifest.budgets, rss_mib=1.0)
        ),
    )
    repository_of_updates.add(costly, board="host_cpu")
    repository_of_updates.publish()
    refused = update(state, server)
    assert refused.code == 1
    assert "may not serve: rss: peak" in refused.out
    assert (state / "current").readlink().name == open_bundle(bundles[0]).digest
    assert_fails(update(state, server), 1, "in quarantine: rss: peak")
    assert len(fetched(server)) == 1


def test_release_that_could_not_be_tried_is_not_fetched_again(
    state: Path, server: UpdateServer, repository_of_updates: SignedRepository, bundles: tuple[Path, Path]
) -> None:
    repository_of_updates.add(bundles[1], board="host_cpu")
    repository_of_updates.publish()
    config = state / "agent.toml"
    # nobody shows pictures on port 1
    config.write_text(f'update.url = "{server.url}"\nweb.port = 1\n', encoding="utf-8")
    untold = edgekit("agent", "update", "--state", state, "--config", config, "--soak", "0", "--json")
    assert (untold.code, untold.document["install"]["result"]) == (1, "failed"), untold
    again = edgekit("agent", "update", "--state", state, "--config", config, *QUICK, "--json")
    assert (again.code, again.document["install"]["result"], again.document["num_bytes"]) == (0, "committed", 0)
    assert len(fetched(server)) == 1


def test_what_cannot_be_trusted_or_reached_changes_nothing(
    state: Path, server: UpdateServer, repository_of_updates: SignedRepository, bundles: tuple[Path, Path]
) -> None:
    before = (state / "current").readlink()
    repository_of_updates.add(bundles[1], board="host_cpu")
    repository_of_updates.publish()
    repository_of_updates.put("timestamp", repository_of_updates.encode("timestamp", []))
    assert_fails(update(state, server), 2, "unsigned")
    assert_fails(edgekit("agent", "update", "--state", state, "--url", "http://127.0.0.1:1"), 3, "offline")
    (state / "update" / "metadata" / "root.json").unlink(missing_ok=True)
    (state / "update" / PINNED_ROOT).unlink()
    assert_fails(update(state, server), 2, "no_root", "edgekit flash")
    assert (state / "current").readlink() == before


def test_nobody_says_where_updates_are(tmp_path: Path) -> None:
    assert_fails(edgekit("agent", "update", "--state", tmp_path), 2, "nobody says where updates are", "--url")
    assert_fails(edgekit("agent", "update", "--state", tmp_path, "--url", "ftp://x"), 2, "ftp://x")
