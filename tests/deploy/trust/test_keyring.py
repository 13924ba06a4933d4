"""Keys at rest, and the chain of roots."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import IntegrityError, UsageError
from edgekit.deploy.trust.keyring import Keyring
from edgekit.deploy.trust.policy import Policy, RolePolicy, parse_share
from edgekit.deploy.trust.sealed_key import ScryptCost, generate, read_sealed, seal, unseal
from publishing_workshop import CHEAP, FixedPassphrase, Workshop
from signed_updates import NOW


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@given(st.text(min_size=8, max_size=40, alphabet=st.characters(exclude_categories=["Cs"])))
def test_key_comes_back_with_its_passphrase(passphrase: str) -> None:
    import tempfile

    signer = generate()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.key")
        path.write_bytes(seal(signer, "targets", passphrase, CHEAP))

        opened = unseal(read_sealed(path), passphrase, path)

        with pytest.raises(UsageError, match="does not open"):
            unseal(read_sealed(path), passphrase + "x", path)
    assert opened.public_key == signer.public_key
    opened.public_key.verify_signature(opened.sign(b"hello"), b"hello")


def test_private_key_is_nowhere_in_clear(workshop: Workshop) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    keyring = workshop.keyring()
    for role in ("root", "targets", "snapshot", "timestamp"):
        for signer in keyring.signers(keyring.root.roles[role].keyids, role):
            private = load_pem_private_key(signer.private_bytes, None).private_bytes_raw()  # pyright: ignore[reportAttributeAccessIssue]
            for path in workshop.folder.rglob("*"):
                content = path.read_bytes() if path.is_file() else b""
                assert private not in content
                assert private.hex().encode() not in content


def test_key_files_are_for_their_owner_alone(workshop: Workshop) -> None:
    paths = [*workshop.keys_dir.rglob("*.key"), *workshop.stick.rglob("*.key")]

    assert len(paths) == 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}


@pytest.mark.parametrize("field", ["role", "key_id", "salt", "nonce", "sealed"])
def test_changed_key_file_does_not_open(field: str, workshop: Workshop) -> None:
    path = next((workshop.keys_dir / "private").glob("targets-*"))
    document = json.loads(path.read_bytes())
    document[field] = "AAAA" + document[field][4:] if field != "role" else "root"
    path.write_text(json.dumps(document))

    with pytest.raises(UsageError, match="does not open"):
        unseal(read_sealed(path), "correct horse", path)


@pytest.mark.parametrize("content", [b"", b"{}", b"-----BEGIN PRIVATE KEY-----"])
def test_garbage_is_no_key_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(content)

    with pytest.raises(IntegrityError, match="is no key file"):
        read_sealed(path)


def test_key_file_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    document = json.loads(seal(generate(), "targets", "correct horse", CHEAP))
    document["cost"]["n"] = 1 << 40
    path.write_text(json.dumps(document))

    with pytest.raises(IntegrityError):
        read_sealed(path)


def test_usual_cost_is_as_documented() -> None:
    cost = ScryptCost()

    assert 128 * cost.n * cost.r == 64 * 1024 * 1024


def test_short_passphrase_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 8"):
        seal(generate(), "targets", "short", CHEAP)


def test_wrong_passphrase_is_named(workshop: Workshop) -> None:
    keyring = workshop.keyring(passphrase="wrong horse")

    with pytest.raises(UsageError, match="the passphrase does not open"):
        keyring.signers(keyring.root.roles["targets"].keyids, "targets")


def test_existing_keys_are_never_overwritten(workshop: Workshop) -> None:
    before = {path: path.read_bytes() for path in workshop.folder.rglob("*") if path.is_file()}

    with pytest.raises(UsageError, match="holds keys already"):
        Keyring.create(workshop.keys_dir, FixedPassphrase(), Policy(), NOW, cost=CHEAP)

    assert {path: path.read_bytes() for path in workshop.folder.rglob("*") if path.is_file()} == before


def test_rotation_without_the_stick_is_refused_and_changes_nothing(workshop: Workshop) -> None:
    before = {path: path.read_bytes() for path in workshop.folder.rglob("*") if path.is_file()}

    with pytest.raises(UsageError, match="not enough root keys") as caught:
        workshop.keyring(has_stick=False).rotate("timestamp", [], NOW)

    assert "--root-keys" in (caught.value.hint or "")
    assert {path: path.read_bytes() for path in workshop.folder.rglob("*") if path.is_file()} == before


def test_rotation_of_one_of_several_keys_leaves_the_others(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, parse_share("2/3", "targets", Policy()))
    keyring = workshop.keyring()
    first, second, third = keyring.root.roles["targets"].keyids

    (new,) = keyring.rotate("targets", [second[:8]], NOW)

    assert set(workshop.keyring().root.roles["targets"].keyids) == {first, third, new}


def test_key_of_another_role_is_not_rotated(workshop: Workshop) -> None:
    keyring = workshop.keyring()

    with pytest.raises(UsageError, match="is none of role timestamp"):
        keyring.rotate("timestamp", [keyring.root.roles["targets"].keyids[0]], NOW)


@pytest.mark.parametrize("beginning", ["", "zzzz"])
def test_unknown_key_is_named(beginning: str, workshop: Workshop) -> None:
    with pytest.raises(UsageError, match="keys begin with"):
        workshop.keyring().revoke(beginning, NOW)


def test_broken_chain_of_roots_is_refused(workshop: Workshop) -> None:
    workshop.keyring().renew(NOW)
    workshop.keyring().renew(NOW)
    (workshop.keys_dir / "root" / "2.root.json").unlink()

    with pytest.raises(IntegrityError, match="expected all from 1 on"):
        workshop.keyring()


def test_forged_root_in_the_chain_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    other = Workshop(tmp_path / "other")
    other.keyring().renew(NOW)
    (workshop.keys_dir / "root" / "2.root.json").write_bytes((other.keys_dir / "root" / "2.root.json").read_bytes())

    with pytest.raises(IntegrityError, match="good signatures of 2"):
        workshop.keyring()


@pytest.mark.parametrize(
    "policy",
    [
        Policy(root=RolePolicy(threshold=3, num_keys=2, days=365)),
        Policy(root=RolePolicy(threshold=0, num_keys=2, days=365)),
        Policy(targets=RolePolicy(threshold=1, num_keys=99, days=365)),
        Policy(timestamp=RolePolicy(threshold=1, num_keys=1, days=0)),
        Policy(timestamp=RolePolicy(threshold=1, num_keys=1, days=100)),
    ],
)
def test_impossible_policy_is_refused(policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Keyring.create(tmp_path / "keys", FixedPassphrase(), policy, NOW, cost=CHEAP)

    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("text", ["2", "a/b", "2/", "-1/3"])
def test_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected NEEDED/KEYS"):
        parse_share(text, "root", Policy())
