"""A board behind a real SSH server, and the command line that flashes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bundles import plain_contents
from edgekit.bundle.reading import write_bundle
from ssh_board import SSHD, SshBoard

pytest.importorskip("asyncssh", reason="the extra `flash` is not installed")


@pytest.fixture(autouse=True)
def isolated_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's keys and agent out of it."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.delenv("EDGEKIT_SSH_PASSWORD", raising=False)
    return home


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshBoard]:
    """A bare Raspberry Pi, as far as it can tell."""
    if not Path(SSHD).is_file():
        pytest.skip("no sshd: apt-get install openssh-server")
    device = SshBoard(tmp_path / "board")
    monkeypatch.setenv("EDGEKIT_BOARD_PREFIX", device.user_and_prefix)
    device.start()
    yield device
    device.stop()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle for a Raspberry Pi 4 that passes every check that needs no runtime."""
    import msgspec

    from bundles import with_manifest

    path = tmp_path / "pets.ekb"
    contents = with_manifest(
        plain_contents(),
        lambda manifest: msgspec.structs.replace(
            manifest, compatible=msgspec.structs.replace(manifest.compatible, architectures=())
        ),
    )
    write_bundle(path, contents)
    return path
