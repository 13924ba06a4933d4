"""A board behind a real SSH server, and the command line that flashes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from bundles import plain_contents, with_manifest
from command_line import Outcome, edgekit
from edgekit.bundle.manifest import Manifest
from edgekit.bundle.reading import write_bundle
from ssh_board import SSHD, SshBoard
from wheels import write_wheelhouse

pytest.importorskip("asyncssh", reason="the extra `flash` is not installed")

Flash = Callable[..., Outcome]


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
def new_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SshBoard]]:
    """Makes boards; the arguments are those of `SshBoard` but the folder."""
    if not Path(SSHD).is_file():
        pytest.skip("no sshd: apt-get install openssh-server")
    made: list[SshBoard] = []

    def make(name: str = "board", **options: object) -> SshBoard:
        device = SshBoard(tmp_path / name, **options)  # pyright: ignore[reportArgumentType]
        monkeypatch.setenv("EDGEKIT_BOARD_PREFIX", device.user_and_prefix)
        made.append(device)
        device.start()
        return device

    yield make
    for device in made:
        device.stop()


@pytest.fixture
def board(new_board: Callable[..., SshBoard]) -> SshBoard:
    """A bare Raspberry Pi 4, as far as it can tell."""
    return new_board()


@pytest.fixture
def flash(board: SshBoard) -> Flash:
    """Runs `edgekit flash` on the board: what to flash, then options."""

    def run(source: Path, *options: str) -> Outcome:
        page = () if "--http" in options else ("--http", f"127.0.0.1:{board.page_port}")
        first = () if "--no-page" in options else page
        rest = [option for option in options if option != "--no-page"]
        return edgekit("flash", board.address, source, "--identity", board.key, *first, *rest)

    return run


@pytest.fixture
def new_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Makes bundles for a Raspberry Pi 4 that pass every check that needs no runtime."""

    def make(release: int = 4, change: Callable[[Manifest], Manifest] = lambda manifest: manifest) -> Path:
        def adapt(manifest: Manifest) -> Manifest:
            # The processor of a board of tests is that of this machine.
            compatible = msgspec.structs.replace(manifest.compatible, architectures=())
            return change(msgspec.structs.replace(manifest, release=release, compatible=compatible))

        path = tmp_path / f"pets-{release}.ekb"
        write_bundle(path, with_manifest(plain_contents(), adapt))
        return path

    return make


@pytest.fixture
def bundle(new_bundle: Callable[..., Path]) -> Path:
    """One of them."""
    return new_bundle()


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    """A folder with a wheel for everything that the agent requires; there is nothing in them."""
    return write_wheelhouse(tmp_path / "wheels")
