"""Attacks on metadata, each test named after one: what the board was given, and by which name it refused."""

# python-tuf and securesystemslib offer these classes without saying so in a way that pyright knows.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from edgekit.agent.update.client import UpdateClient
from edgekit.agent.update.outcome import Outcome, UpdateError
from signed_updates import FakeClock, SignedRepository, make_client
from update_server import Request, UpdateServer

Refused = Callable[..., Outcome]
DAY = dt.timedelta(days=1)
SIGNED_ROLES = ("targets", "snapshot", "timestamp")


def republish(repository: SignedRepository, role: str, signers: list[CryptoSigner]) -> None:
    """A new state in which one role is signed by others, and everything else names it rightly."""
    kept = repository.signers[role]
    repository.signers[role] = signers
    repository.publish()
    repository.signers[role] = kept


def offer_after_refresh(client: UpdateClient, release: int) -> None:
    offer = client.refresh()
    assert offer is not None
    assert offer.release == release


@pytest.mark.parametrize("role", SIGNED_ROLES)
def test_attack_forged_metadata_is_refused(
    role: str, repository_files: SignedRepository, client: UpdateClient, refused: Refused
) -> None:
    """The right key's signature, on something that it never signed."""
    repository_files.release(1)
    client.refresh()
    repository_files.publish()
    path = repository_files.path(role)
    document = json.loads(path.read_bytes())
    document["signed"]["expires"] = "2031-01-01T00:00:00Z"
    path.write_text(json.dumps(document))
    _name_again(repository_files, role, path.read_bytes())

    outcome = refused()

    assert (outcome.name, outcome.role) == ("forged", role)


def _name_again(repository: SignedRepository, role: str, content: bytes) -> None:
    """Make what names a role's metadata name the changed content: only its signature is wrong now."""
    if role == "targets":
        repository.snapshot.meta["targets.json"] = type(repository.timestamp.snapshot_meta).from_data(
            repository.targets.version, content, ["sha256"]
        )
        content = repository.put("snapshot")
    if role in {"targets", "snapshot"}:
        repository.timestamp.snapshot_meta = type(repository.timestamp.snapshot_meta).from_data(
            repository.snapshot.version, content, ["sha256"]
        )
        repository.put("timestamp")


@pytest.mark.parametrize("role", SIGNED_ROLES)
def test_attack_unsigned_metadata_is_refused(role: str, repository_files: SignedRepository, refused: Refused) -> None:
    republish(repository_files, role, [])

    outcome = refused()

    assert (outcome.name, outcome.role) == ("unsigned", role)


@pytest.mark.parametrize("role", SIGNED_ROLES)
def test_attack_wrong_key_is_refused(role: str, repository_files: SignedRepository, refused: Refused) -> None:
    republish(repository_files, role, [CryptoSigner.generate_ed25519()])

    outcome = refused()

    assert (outcome.name, outcome.role) == ("wrong_key", role)


@pytest.mark.parametrize("role", SIGNED_ROLES)
def test_attack_key_of_another_role_is_refused(role: str, repository_files: SignedRepository, refused: Refused) -> None:
    other = {"targets": "snapshot", "snapshot": "timestamp", "timestamp": "targets"}[role]
    republish(repository_files, role, repository_files.signers[other])

    assert refused().name == "wrong_key"


@pytest.mark.parametrize("role", SIGNED_ROLES)
def test_attack_below_threshold_is_refused(role: str, server: UpdateServer, clock: FakeClock, tmp_path: Path) -> None:
    """One of two keys was stolen."""
    shutil.rmtree(server.folder)
    repository = SignedRepository(server.folder, threshold=2)
    client = make_client(server.url, tmp_path / "board", clock, repository.pinned)
    client.refresh()
    republish(repository, role, repository.signers[role][:1])

    with pytest.raises(UpdateError, match="fewer good signatures") as caught:
        client.refresh()

    assert (caught.value.outcome.name, caught.value.outcome.role) == ("below_threshold", role)


def test_attack_one_key_signing_twice_is_below_threshold(
    server: UpdateServer, clock: FakeClock, tmp_path: Path
) -> None:
    shutil.rmtree(server.folder)
    repository = SignedRepository(server.folder, threshold=2)
    client = make_client(server.url, tmp_path / "board", clock, repository.pinned)
    signer = repository.signers["timestamp"][0]
    republish(repository, "timestamp", [signer, signer])

    with pytest.raises(UpdateError) as caught:
        client.refresh()

    assert caught.value.outcome.name == "below_threshold"


def test_attack_new_root_without_the_old_keys_is_refused(
    repository_files: SignedRepository, client: UpdateClient, refused: Refused
) -> None:
    client.refresh()
    thief = SignedRepository(repository_files.folder.parent / "thief")
    thief.root.version = 2
    (repository_files.folder / "metadata" / "2.root.json").write_bytes(thief.encode("root"))

    outcome = refused()

    assert (outcome.name, outcome.role) == ("wrong_key", "root")


def test_attack_new_root_that_its_own_keys_did_not_sign_is_refused(
    repository_files: SignedRepository, refused: Refused
) -> None:
    old = list(repository_files.signers["root"])
    repository_files.rotate("root")
    repository_files.put("root", repository_files.encode("root", old))

    outcome = refused()

    assert (outcome.name, outcome.role) == ("wrong_key", "root")


@pytest.mark.parametrize("role", ["root", *SIGNED_ROLES])
def test_attack_expired_metadata_is_refused(
    role: str, repository_files: SignedRepository, clock: FakeClock, client: UpdateClient, refused: Refused
) -> None:
    repository_files.release(1)
    client.refresh()
    repository_files.signed(role).expires = clock.now - DAY
    if role == "root":
        repository_files.publish_root()
    else:
        repository_files.publish()

    outcome = refused()

    assert (outcome.name, outcome.role) == ("expired", role)


def test_attack_freeze_ends_in_expired(
    repository_files: SignedRepository, clock: FakeClock, client: UpdateClient, refused: Refused
) -> None:
    """The attacker shows the same old state for ever; a newer one exists."""
    repository_files.release(1)
    offer_after_refresh(client, 1)

    clock.now += 31 * DAY

    outcome = refused()
    assert (outcome.name, outcome.role) == ("expired", "timestamp")


def test_attack_freeze_by_retry_after_lasts_a_day_at_most(
    server: UpdateServer, clock: FakeClock, client: UpdateClient, refused: Refused
) -> None:
    def leave_me_alone(request: Request) -> bool:
        request.answer(429, b"", {"Retry-After": "999999999"})
        return True

    server.fault = leave_me_alone
    assert refused().retry_after_s == 86_400
    server.fault = None
    clock.passed_s += 86_401

    client.refresh()


@pytest.mark.parametrize("role", SIGNED_ROLES)
def test_attack_rollback_of_one_role_is_refused(
    role: str, repository_files: SignedRepository, client: UpdateClient, refused: Refused
) -> None:
    """A thief of all online keys shows a lower version of one role than the board has seen."""
    for _ in range(3):
        repository_files.publish()
    client.refresh()
    repository_files.publish()
    repository_files.signed(role).version = 2
    content = repository_files.put(role)
    _name_again(repository_files, role, content)

    outcome = refused()

    assert outcome.name == "rollback"


def test_attack_rollback_to_an_old_repository_is_refused(
    repository_files: SignedRepository, client: UpdateClient, refused: Refused, tmp_path: Path
) -> None:
    repository_files.release(1)
    shutil.copytree(repository_files.folder, tmp_path / "old")
    repository_files.release(2)
    offer_after_refresh(client, 2)
    shutil.rmtree(repository_files.folder)
    shutil.copytree(tmp_path / "old", repository_files.folder)

    outcome = refused()

    assert (outcome.name, outcome.role) == ("rollback", "timestamp")


def test_attack_rollback_of_root_is_refused(
    repository_files: SignedRepository, client: UpdateClient, refused: Refused, tmp_path: Path
) -> None:
    """The board lost its newest root, and the server no longer shows it."""
    repository_files.publish_root()
    client.refresh()
    (tmp_path / "state" / "metadata" / "root.json").unlink()
    (repository_files.folder / "metadata" / "2.root.json").unlink()

    outcome = refused()

    assert (outcome.name, outcome.role) == ("rollback", "root")


def test_attack_root_with_a_skipped_version_is_refused(repository_files: SignedRepository, refused: Refused) -> None:
    repository_files.root.version = 3
    (repository_files.folder / "metadata" / "2.root.json").write_bytes(repository_files.encode("root"))

    outcome = refused()

    assert (outcome.name, outcome.role) == ("rollback", "root")


@pytest.mark.parametrize("has_hashes", [True, False])
@pytest.mark.parametrize("role", ["targets", "snapshot"])
def test_attack_mix_and_match_is_refused(
    role: str, has_hashes: bool, repository_files: SignedRepository, client: UpdateClient, refused: Refused
) -> None:
    """A file of another state, rightly signed, under the name that this state has for it."""
    client.refresh()
    old = repository_files.path(role).read_bytes()
    repository_files.publish(has_hashes=has_hashes)
    repository_files.put(role, old)

    outcome = refused()

    assert (outcome.name, outcome.role) == ("mix_and_match", role)


@pytest.mark.parametrize("role", ["root", *SIGNED_ROLES])
def test_attack_endless_metadata_is_cut_off(
    role: str, server: UpdateServer, repository_files: SignedRepository, refused: Refused
) -> None:
    name = "2.root.json" if role == "root" else repository_files.path(role).name

    def never_end(request: Request) -> bool:
        if not request.path.endswith(f"/{name}"):
            return False
        request.send_response(200)
        request.end_headers()
        request.send(b'{"signed": "')
        while not request.server.closing.is_set():
            request.send(b"x" * 65536)
        return True

    server.fault = never_end

    outcome = refused()

    assert (outcome.name, outcome.role) == ("too_large", role)
    # roots may have 512 kB; what lies in buffers on the way is counted by the server, too
    assert server.num_content_bytes < 16 * 1024 * 1024


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1, 2]", b"\x00" * 100, b'{"signed": {}, "signatures": []}', b"[" * 9000]
)
def test_attack_garbage_metadata_is_malformed(
    content: bytes, repository_files: SignedRepository, refused: Refused
) -> None:
    repository_files.path("timestamp").write_bytes(content)

    outcome = refused()

    assert (outcome.name, outcome.role) == ("malformed", "timestamp")


def test_attack_metadata_of_another_role_is_malformed(repository_files: SignedRepository, refused: Refused) -> None:
    repository_files.path("timestamp").write_bytes(repository_files.encode("snapshot"))

    assert refused().name == "malformed"
