"""`edgekit keys` and `edgekit publish`: what they print, where passphrases come from, and how they fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import assert_fails, edgekit
from edgekit.deploy.trust import sealed_key
from publishing_workshop import CHEAP
from signed_updates import write_ekb


@pytest.fixture(autouse=True)
def cheap_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealing costs nothing, and nothing of the user's environment opens anything."""
    monkeypatch.setattr(sealed_key, "USUAL_COST", CHEAP)
    for variable in ("EDGEKIT_PASSPHRASE", "EDGEKIT_ROOT_PASSPHRASE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text("correct horse\n", encoding="utf-8")
    return path


@pytest.fixture
def keys(tmp_path: Path, passphrase: Path) -> Path:
    folder = tmp_path / "keys"
    outcome = edgekit("keys", "init", folder, "--root-keys", tmp_path / "stick", "--passphrase-file", passphrase)
    assert outcome.code == 0, outcome
    return folder


def test_keys_init_tells_roles_and_what_boards_trust(tmp_path: Path, passphrase: Path) -> None:
    outcome = edgekit("keys", "init", tmp_path / "k", "--passphrase-file", passphrase)

    assert outcome.code == 0
    assert "2 of 3" in outcome.out
    assert f"boards trust {tmp_path / 'k' / 'root' / '1.root.json'}" in outcome.out
    assert "to a stick" in outcome.err
    assert len(list((tmp_path / "k" / "offline").iterdir())) == 3


def test_keys_show_json_needs_no_passphrase(keys: Path, tmp_path: Path) -> None:
    document = edgekit("keys", "show", keys, "--json").document

    here = {role["role"]: [key["is_here"] for key in role["keys"]] for role in document["roles"]}
    assert here == {"root": [False] * 3, "targets": [True], "snapshot": [True], "timestamp": [True]}
    assert document["root_version"] == 1
    assert Path(document["pin"]).is_file()
    with_stick = edgekit("keys", "show", keys, "--root-keys", tmp_path / "stick", "--json").document
    assert all(key["is_here"] for role in with_stick["roles"] for key in role["keys"])


def test_publish_json_tells_targets_versions_and_order(keys: Path, passphrase: Path, tmp_path: Path) -> None:
    ekb = write_ekb(tmp_path / "a.ekb", 3)

    outcome = edgekit(
        "publish", ekb, "--to", tmp_path / "www", "--keys", keys, "--passphrase-file", passphrase, "--json"
    )

    assert outcome.document["targets"] == ["stable/host_cpu/pets-3.ekb", "stable/raspberry_pi_4b/pets-3.ekb"]
    assert outcome.document["written"][-1] == "metadata/timestamp.json"
    assert outcome.document["versions"]["timestamp"] == 1


def test_rotate_revoke_and_renew_make_new_roots(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_PASSPHRASE", "correct horse")
    stick = ("--root-keys", tmp_path / "stick", "--json")
    www = ("--to", tmp_path / "www", "--keys", keys)
    assert edgekit("publish", write_ekb(tmp_path / "a.ekb", 1), *www).code == 0

    rotated = edgekit("keys", "rotate", keys, "timestamp", *stick)
    old = next(role for role in rotated.document["roles"] if role["role"] == "snapshot")["keys"][0]["id"]
    revoked = edgekit("keys", "revoke", keys, old[:8], *stick)
    renewed = edgekit("keys", "renew", keys, *stick)

    assert [done.document["root_version"] for done in (rotated, revoked, renewed)] == [2, 3, 4]
    assert "do it now" in revoked.err
    again = edgekit("publish", "--renew", *www)
    assert again.code == 0
    assert "root 4 until" in again.out
    assert (tmp_path / "www" / "metadata" / "4.root.json").is_file()


def test_root_keys_may_have_a_passphrase_of_their_own(
    tmp_path: Path, passphrase: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "k"
    monkeypatch.setenv("EDGEKIT_ROOT_PASSPHRASE", "battery staple")
    assert edgekit("keys", "init", keys, "--passphrase-file", passphrase).code == 0

    assert edgekit("keys", "renew", keys, "--passphrase-file", passphrase).code == 0
    monkeypatch.delenv("EDGEKIT_ROOT_PASSPHRASE")
    assert_fails(edgekit("keys", "renew", keys, "--passphrase-file", passphrase), 2, "does not open")


def test_passphrase_without_anybody_to_ask_is_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)

    assert_fails(edgekit("keys", "init", tmp_path / "k"), 2, "no terminal", "EDGEKIT_PASSPHRASE")
    assert not (tmp_path / "k").exists()


def test_empty_and_missing_passphrase_files_are_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    assert_fails(edgekit("keys", "init", tmp_path / "k", "--passphrase-file", tmp_path / "empty"), 2, "empty")
    assert_fails(edgekit("keys", "init", tmp_path / "k", "--passphrase-file", tmp_path / "none"), 2, "cannot read")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "no-such-folder"), ("no keyring", "keys init")),
        (("rotate", "KEYS", "timestmp"), ("timestmp", "did you mean 'timestamp'?")),
        (("revoke", "KEYS", "zz"), ("0 keys begin with 'zz'",)),
        (("init", "KEYS"), ("holds keys already",)),
        (("init", "other", "--root", "3/2"), ("root: 3 of 2",)),
        (("init", "other", "--targets", "two"), ("expected NEEDED/KEYS",)),
    ],
)
def test_keys_fail_in_two_lines(
    arguments: tuple[str, ...], words: tuple[str, ...], keys: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGEKIT_PASSPHRASE", "correct horse")
    monkeypatch.chdir(tmp_path)
    given = [str(keys) if argument == "KEYS" else argument for argument in arguments]

    assert_fails(edgekit("keys", *given), 2, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("--to DIR is missing",)),
        (("--to", "www"), ("name a bundle, or --renew",)),
        (("a.ekb", "--renew", "--to", "www"), ("one of the two",)),
        (("none.ekb", "--to", "www"), ("no bundle at none.ekb",)),
        (("a.ekb", "--to", "s3://bucket/x"), ("timestamp.json last",)),
        (("a.ekb", "--to", "www", "--channel", "../x"), ("channel",)),
        (("--renew", "--to", "www"), ("holds no repository",)),
    ],
)
def test_publish_fails_in_two_lines(
    arguments: tuple[str, ...], words: tuple[str, ...], keys: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGEKIT_PASSPHRASE", "correct horse")
    monkeypatch.chdir(tmp_path)
    write_ekb(tmp_path / "a.ekb")

    assert_fails(edgekit("publish", *arguments, "--keys", keys), 2, *words)
    assert not (tmp_path / "www").exists()


def test_keys_without_python_tuf_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tuf.api.metadata", None)

    assert_fails(edgekit("keys", "show", tmp_path), 3, "pip install edgekit[agent]")
