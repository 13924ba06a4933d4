"""Attacks on bundles and on the list that names them, each test named after one."""

# python-tuf and securesystemslib offer these classes without saying so in a way that pyright knows.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgekit.agent.update.client import UpdateClient
from edgekit.agent.update.offers import Seen
from edgekit.agent.update.outcome import Outcome, UpdateError
from signed_updates import BOARD, FakeClock, SignedRepository, make_client, write_ekb
from update_server import Request, UpdateServer

Refused = Callable[..., Outcome]


def test_attack_endless_bundle_is_cut_off(
    server: UpdateServer, repository_files: SignedRepository, client: UpdateClient, tmp_path: Path
) -> None:
    repository_files.release(1)
    offer = client.refresh()
    assert offer is not None

    def never_end(request: Request) -> bool:
        request.send_response(200)
        request.end_headers()
        request.send(request.content or b"")
        while not request.server.closing.is_set():
            request.send(b"x" * 65536)
        return True

    server.fault = never_end

    with pytest.raises(UpdateError) as caught:
        client.fetch(offer, tmp_path / "down")

    assert caught.value.outcome.name == "too_large"
    assert client.status.num_bytes <= offer.size_bytes + 2 * 65536


def test_attack_arbitrary_installation_is_refused(
    repository_files: SignedRepository, client: UpdateClient, tmp_path: Path
) -> None:
    """Whoever holds the web server, and no key, puts another bundle in the place of the signed one."""
    ekb = repository_files.release(1)
    offer = client.refresh()
    assert offer is not None
    place = repository_files.target_path(repository_files.targets.targets[offer.path])
    other = write_ekb(tmp_path / "evil.ekb", 1, model=b"evil model"[:8] * 40)
    assert other.stat().st_size == ekb.stat().st_size
    place.write_bytes(other.read_bytes())

    with pytest.raises(UpdateError) as caught:
        client.fetch(offer, tmp_path / "down")

    assert caught.value.outcome.name == "wrong_hash"
    assert list((tmp_path / "down").iterdir()) == []


@pytest.mark.parametrize(
    "path",
    [
        "stable/raspberry_pi_4b/../../../etc/cron.d/evil-1.ekb",
        "stable/raspberry_pi_4b/..",
        "stable/raspberry_pi_4b//etc/passwd-1.ekb",
        "stable/raspberry_pi_4b/.hidden-1.ekb",
        "stable/raspberry_pi_4b/pets-1.ekb\x00.txt",
        "stable/raspberry_pi_4b/pets%2F..%2F-1.ekb",
        "stable/raspberry_pi_4b/pets-99999999999999999999.ekb",
        "stable/raspberry_pi_4b/pets.so",
    ],
)
def test_attack_path_traversal_in_target_name_is_refused(
    path: str, repository_files: SignedRepository, refused: Refused, tmp_path: Path
) -> None:
    target = repository_files.add(write_ekb(tmp_path / "a.ekb"))
    del repository_files.targets.targets[target.path]
    target.path = path
    repository_files.targets.targets[path] = target
    repository_files.publish()

    assert refused().name == "bad_target_name"


def test_targets_of_other_boards_and_channels_are_not_looked_at(
    repository_files: SignedRepository, client: UpdateClient, tmp_path: Path
) -> None:
    repository_files.add(write_ekb(tmp_path / "a.ekb", 7), board="jetson_nano")
    repository_files.add(write_ekb(tmp_path / "b.ekb", 8), channel="beta")
    repository_files.publish()

    assert client.refresh() is None


def test_attack_lower_release_counter_is_refused(
    repository_files: SignedRepository, client: UpdateClient, refused: Refused, tmp_path: Path
) -> None:
    """A thief of all online keys publishes a new state with an old bundle."""
    repository_files.release(2)
    offer = client.refresh()
    assert offer is not None
    client.fetch(offer, tmp_path / "down")
    repository_files.targets.targets.clear()
    repository_files.release(1)

    assert refused().name == "lower_release"


def test_attack_lower_release_than_the_installed_is_refused(
    repository_files: SignedRepository, refused: Refused
) -> None:
    repository_files.release(1)

    assert refused(installed=Seen(name="pets", release=2, digest="ab" * 32)).name == "lower_release"


def test_attack_same_release_with_other_content_is_refused(
    repository_files: SignedRepository, client: UpdateClient, refused: Refused, tmp_path: Path
) -> None:
    repository_files.release(2)
    offer = client.refresh()
    assert offer is not None
    client.fetch(offer, tmp_path / "down")
    repository_files.release(2, model=b"another!" * 40)

    assert refused().name == "same_release_other_content"


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "cd" * 32},  # a bundle with another manifest than the signed list says
    ],
)
def test_attack_bundle_that_contradicts_its_signed_entry_is_refused(
    change: dict[str, Any], repository_files: SignedRepository, client: UpdateClient, tmp_path: Path
) -> None:
    repository_files.add(write_ekb(tmp_path / "a.ekb"), note=lambda note: msgspec.structs.replace(note, **change))
    repository_files.publish()
    offer = client.refresh()
    assert offer is not None

    with pytest.raises(UpdateError) as caught:
        client.fetch(offer, tmp_path / "down")

    assert caught.value.outcome.name == "wrong_bundle"
    assert list((tmp_path / "down").iterdir()) == []


def test_attack_bundle_of_another_board_under_this_boards_name_is_refused(
    server: UpdateServer, repository_files: SignedRepository, clock: FakeClock, tmp_path: Path
) -> None:
    repository_files.add(write_ekb(tmp_path / "a.ekb"), board="jetson_nano")
    repository_files.publish()
    client = make_client(server.url, tmp_path / "jetson", clock, repository_files.pinned)
    client._config = msgspec.structs.replace(client._config, board="jetson_nano")
    offer = client.refresh()
    assert offer is not None

    with pytest.raises(UpdateError) as caught:
        client.fetch(offer, tmp_path / "down")

    assert caught.value.outcome.name == "wrong_bundle"


@pytest.mark.parametrize("change", [{"board": "jetson_nano"}, {"release": 9}, {"name": "cars"}, {"version": 2}])
def test_attack_note_that_contradicts_the_target_name_is_refused(
    change: dict[str, Any], repository_files: SignedRepository, refused: Refused, tmp_path: Path
) -> None:
    repository_files.add(write_ekb(tmp_path / "a.ekb"), note=lambda note: msgspec.structs.replace(note, **change))
    repository_files.publish()

    assert refused().name == "malformed"


def test_attack_huge_bundle_is_refused_before_a_byte_of_it(
    server: UpdateServer, repository_files: SignedRepository, clock: FakeClock, tmp_path: Path
) -> None:
    repository_files.release(1)
    client = make_client(server.url, tmp_path / "small", clock, repository_files.pinned, max_bundle_bytes=100)

    with pytest.raises(UpdateError) as caught:
        client.refresh()

    assert caught.value.outcome.name == "too_big"


def test_two_names_for_one_board_are_ambiguous_until_one_is_chosen(
    server: UpdateServer, repository_files: SignedRepository, clock: FakeClock, refused: Refused, tmp_path: Path
) -> None:
    repository_files.release(5)
    repository_files.add(write_ekb(tmp_path / "cars.ekb", 9, name="cars"))
    repository_files.publish()

    assert refused().name == "ambiguous"

    client = make_client(server.url, tmp_path / "state", clock, repository_files.pinned, name="pets")
    offer = client.refresh()
    assert offer is not None
    assert (offer.name, offer.release, offer.board) == ("pets", 5, BOARD)
