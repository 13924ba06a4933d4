"""Releases on the disk: `releases/<digest>/`, and the links `current` and `previous` that name two of them.

Every change is made so that a power cut leaves the state before it or after it: files are written under another name,
synced and read again before the name is theirs; links are replaced by a rename; folders are synced after both.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Generator
from pathlib import Path

from edgekit.agent.install.machine import Links
from edgekit.agent.install.record import sync_folder
from edgekit.bundle.check import NAMES
from edgekit.bundle.reading import Bundle, open_bundle, read_file
from edgekit.core.errors import DataError, IntegrityError, OutputError, UsageError

RELEASES = "releases"
CURRENT, PREVIOUS = "current", "previous"
TRIAL = "trial"
_NEW = ".new-"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


class ReleaseStore:
    """The releases of one board.

    Args:
        state_dir: Folder that holds them; `releases/` in it is made.

    Raises:
        OutputError: It cannot be written.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.releases_dir = state_dir / RELEASES
        with _told(state_dir):
            if not self.releases_dir.is_dir():
                self.releases_dir.mkdir(parents=True)
                sync_folder(state_dir)

    @property
    def trial_dir(self) -> Path:
        """Where a trial may write; removed after it."""
        return self.state_dir / TRIAL

    def folder(self, digest: str) -> Path:
        """Where a release lies, or would lie."""
        return self.releases_dir / digest

    def links(self) -> Links:
        """What the links name; None for one that is not there, or names no release.

        Raises:
            UsageError: Something else lies where a link should be.
        """
        return Links(current=self._read_link(CURRENT), previous=self._read_link(PREVIOUS))

    def stage(self, bundle: Bundle) -> Path:
        """Copy a checked bundle into its place, durably, and check what is read back.

        Returns:
            The release's folder.

        Raises:
            IntegrityError: What was read back is not what was written, or the bundle has changed meanwhile.
            OutputError: It cannot be written; nothing is left then.
        """
        folder = self.folder(bundle.digest)
        if self.is_whole(bundle.digest):
            return folder
        beside = self.releases_dir / f"{_NEW}{bundle.digest[:16]}"
        with _told(folder):
            try:
                for leftover in (beside, folder):
                    remove_tree(leftover)
                beside.mkdir()
                for name in NAMES:
                    _write_synced(beside / name, read_file(bundle, name))
                sync_folder(beside)
                _expect_digest(beside, bundle.digest)
                beside.rename(folder)
                sync_folder(self.releases_dir)
            except BaseException:
                with contextlib.suppress(OSError):
                    remove_tree(beside)
                raise
        return folder

    def is_whole(self, digest: str | None) -> bool:
        """Whether a release is there, and every byte of it is right."""
        if digest is None or not self.folder(digest).is_dir():
            return False
        try:
            _expect_digest(self.folder(digest), digest)
        except (IntegrityError, UsageError, DataError):
            return False
        return True

    def point(self, links: Links) -> None:
        """Set the links, durably. `previous` first: between the two, both name what serves.

        Raises:
            OutputError: One of them cannot be set.
        """
        with _told(self.state_dir):
            for name, digest in ((PREVIOUS, links.previous), (CURRENT, links.current)):
                self._point(name, digest)

    def clean(self, kept: frozenset[str]) -> int:
        """Remove all releases but the kept ones, and what interrupted work left.

        Returns:
            How many things were removed.

        Raises:
            OutputError: One of them cannot be removed.
        """
        with _told(self.state_dir):
            doomed = [path for path in self.releases_dir.iterdir() if path.name not in kept]
            doomed += [path for path in self._temporary_links() if path.is_symlink()]
            doomed += [self.trial_dir] if self.trial_dir.exists() else []
            for path in doomed:
                remove_tree(path)
            if doomed:
                sync_folder(self.releases_dir)
                sync_folder(self.state_dir)
        return len(doomed)

    def _temporary_links(self) -> tuple[Path, ...]:
        return tuple(self.state_dir / f".{name}.new" for name in (CURRENT, PREVIOUS))

    def _read_link(self, name: str) -> str | None:
        path = self.state_dir / name
        try:
            target = str(path.readlink())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(
                f"{path} is no link, expected one to {RELEASES}/", hint="move it away: it was not put there by edgekit"
            ) from error
        digest = target.removeprefix(f"{RELEASES}/")
        return digest if _DIGEST.fullmatch(digest) else None

    def _point(self, name: str, digest: str | None) -> None:
        path = self.state_dir / name
        if self._read_link(name) == digest and path.is_symlink() == (digest is not None):
            sync_folder(self.state_dir)  # it may be so only in memory, when a power cut came before
            return
        if digest is None:
            path.unlink()
        else:
            beside = self.state_dir / f".{name}.new"
            beside.unlink(missing_ok=True)
            beside.symlink_to(f"{RELEASES}/{digest}")
            beside.replace(path)
        sync_folder(self.state_dir)


def remove_tree(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; nothing there is fine. Raises OSError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        shutil.rmtree(path)
    else:
        path.unlink()


def _expect_digest(folder: Path, digest: str) -> None:
    found = open_bundle(folder).digest
    if found != digest:
        raise IntegrityError(f"{folder} holds the release {found[:16]}..., expected {digest[:16]}...")


def _write_synced(path: Path, content: bytes) -> None:
    """Write a new file; it is on the disk on return, and the next reader has to get it from there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view[:_CHUNK_BYTES]) :]
        os.fsync(descriptor)
        with contextlib.suppress(OSError):  # only advice
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _told(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}", hint="check free space and permissions"
        ) from error
