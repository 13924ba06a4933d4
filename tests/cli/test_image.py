"""`edgekit image` and `edgekit image write`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from card_images import CardSpec, make_card, missing_tools, read_root, write_bundle_for
from command_line import assert_fails, edgekit
from edgekit.bundle.reading import open_bundle

PASSWORD = "correct-horse-battery"


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if missing_tools():
        pytest.skip(f"needs {', '.join(missing_tools())}")
    return make_card(tmp_path_factory.mktemp("card"), CardSpec())


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle_for(tmp_path_factory.mktemp("bundle") / "pets.ekb", ("raspberry_pi_4b",))


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "key.pub").write_text(f"ssh-ed25519 {'A' * 68} maker@home\n")
    (folder / "password").write_text(f"{PASSWORD}\n")
    return folder


def _options(settings: Path) -> tuple[str | Path, ...]:
    wifi = ("--wifi", "home", "--wifi-password-file", settings / "password", "--wifi-country", "DE")
    return ("--hostname", "kitchen", "--user", "maker", "--ssh-key", settings / "key.pub", *wifi)


def test_image_is_made_as_the_readme_types_it(card: Path, bundle_path: Path, settings: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.img"
    made = edgekit("image", card, bundle_path, "--out", out, *_options(settings), "--camera", "v4l2:0")
    assert made.code == 0, made
    assert f"edgekit image write {out} /dev/sdX" in made.out
    assert read_root(out, "/etc/hostname") == "kitchen\n"
    assert 'source = "v4l2:0"' in read_root(out, "/etc/edgekit/agent.toml")


def test_json_is_one_document_without_a_secret(card: Path, bundle_path: Path, settings: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.img"
    made = edgekit("image", "make", card, bundle_path, "--out", out, *_options(settings), "--json")
    assert made.document["bundle"]["digest"] == open_bundle(bundle_path).digest
    assert made.document["written"] is True
    assert made.document["requirements"] == read_root(out, "/opt/edgekit/requirements.txt").splitlines()
    secret = [step for step in made.document["steps"] if step.get("detail") == "secret"]
    assert [step["path"].rsplit("/", 1)[1] for step in secret] == ["edgekit-wifi.nmconnection"]
    assert all("sha256" not in step for step in secret)
    assert PASSWORD not in made.out + made.err


def test_dry_run_writes_nothing_and_shows_no_secret(
    card: Path, bundle_path: Path, settings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "out.img"
    planned = edgekit("--verbose", "image", "--dry-run", "--out", out, *_options(settings), card, bundle_path)
    assert planned.code == 0, planned
    assert "link    /var/lib/edgekit/current -> releases/" in planned.out
    assert "nothing was written" in planned.out
    assert not out.parent.exists()
    assert PASSWORD not in planned.out + planned.err


def test_settings_file_is_checked_as_the_agent_reads_it(
    card: Path, bundle_path: Path, settings: Path, tmp_path: Path
) -> None:
    config, out = settings / "agent.toml", tmp_path / "out.img"
    config.write_text('bundle = "/var/lib/edgekit/current"\n[camera]\nsorce = "0"\n')
    assert_fails(edgekit("image", card, bundle_path, "--out", out, "--config", config), 2, "sorce")
    config.write_text('bundle = "/elsewhere"\n')
    assert_fails(edgekit("image", card, bundle_path, "--out", out, "--config", config), 2, "/elsewhere")
    config.write_text('bundle = "/var/lib/edgekit/current"\n[mqtt]\nhost = "broker"\n')
    assert edgekit("image", card, bundle_path, "--out", out, "--config", config).code == 0
    assert read_root(out, "/etc/edgekit/agent.toml") == config.read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--hostname", "Küche"), "host name"),
        (("--user", "maker"), "nobody could log in"),
        (("--wifi-country", "DE"), "without a network"),
        (("--wifi", "home", "--wifi-password-file", "/no/such/file"), "/no/such/file"),
        (("--ssh-key", "/no/such/key"), "/no/such/key"),
        (("--for", "rasberry_pi_4b"), "raspberry_pi_4b"),
        (("--for", "jetson_nano"), "not for jetson_nano"),
        (("--camera", "0", "--config", "/x"), "--camera and --config"),
        (("--wheels", "/no/such/folder"), "/no/such/folder"),
    ],
)
def test_wrong_options_are_told_in_one_line(
    card: Path, bundle_path: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    out = tmp_path / "out.img"
    assert_fails(edgekit("image", card, bundle_path, "--out", out, *options), 2, words)
    assert list(tmp_path.iterdir()) == []


def test_password_in_the_wrong_form_is_never_repeated(
    card: Path, bundle_path: Path, settings: Path, tmp_path: Path
) -> None:
    (settings / "password").write_text("zyx-987\n")
    out = edgekit("image", card, bundle_path, "--out", tmp_path / "out.img", *_options(settings))
    assert_fails(out, 2, "Wi-Fi password has 7 characters")
    assert "zyx-987" not in out.err


def test_private_key_is_refused(card: Path, bundle_path: Path, settings: Path, tmp_path: Path) -> None:
    (settings / "key.pub").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n")
    out = edgekit("image", card, bundle_path, "--out", tmp_path / "out.img", *_options(settings))
    assert_fails(out, 2, "private key")
    assert "c2VjcmV0" not in out.err


def test_help_names_both_ways() -> None:
    assert "edgekit image IN.img RUN" in edgekit("image", "--help").out.replace("\n  ", " ")
    assert "--wifi-password-file" in edgekit("image", "make", "--help").out


def test_write_refuses_what_is_no_disk(card: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    assert_fails(edgekit("image", "write", card, tmp_path / "file", "--yes"), 2, "no block device")
    assert_fails(edgekit("image", "write", card, tmp_path / "none", "--yes"), 2, "cannot find")
    assert (tmp_path / "file").read_bytes() == bytes(100)


def test_write_asks_before_it_overwrites(card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.deploy.image import card as writing
    from edgekit.deploy.image.disks import Disk

    device = tmp_path / "device"
    device.write_bytes(b"\7" * card.stat().st_size)
    disk = Disk(path=device, name="sdz", size_bytes=device.stat().st_size, is_removable=True, model="Stick")
    monkeypatch.setattr(writing.write_card, "__kwdefaults__", {"look_at": lambda _: disk})
    assert_fails(edgekit("image", "write", card, device), 2, "Stick", "--yes")
    planned = edgekit("image", "write", card, device, "--dry-run")
    assert "not written" in planned.out
    assert device.read_bytes() == b"\7" * card.stat().st_size
    written = edgekit("image", "write", card, device, "--yes", "--json")
    assert written.code == 0, written
    assert written.document["written"] is True
    assert len(written.document["sha256"]) == 64
    assert json.dumps(written.document["plan"]["disk"]["model"]) == '"Stick"'
