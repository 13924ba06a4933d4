"""The board asks for an update: what is there, is it ours, is it newer, and here it is."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import logging
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgekit.agent.update.clock import Clock, SystemClock
from edgekit.agent.update.config import UpdateConfig
from edgekit.agent.update.download import Download, Wanted
from edgekit.agent.update.durable import make_folder, storage_error, write_durably
from edgekit.agent.update.http import Http
from edgekit.agent.update.offers import Offer, Seen, is_newer, newest_offer
from edgekit.agent.update.outcome import Outcome, UpdateError, update_error
from edgekit.bundle.reading import open_bundle
from edgekit.core.errors import DataError, IntegrityError, MissingDependencyError

if TYPE_CHECKING:
    from edgekit.agent.update.trusted import Session, TrustedFolder

_logger = logging.getLogger(__name__)

PINNED_ROOT = "pinned-root.json"
"""In the state folder: the root that came by a safe way, over SSH or in a card's image. Never changed by an update."""

_METADATA_DIR, _MARKS, _LOCK = "metadata", "marks.json", "lock"


class UpdateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the last refresh or download ended.

    Args:
        outcome: Why it failed; None when it did not, or there was none yet.
        offer: The bundle that is newer than the board's; None when there is none.
        is_clock_behind: The board's clock is earlier than something that was signed, so that time counts instead.
        floor_unix_s: The earliest that it can be now, seconds since 1970; 0 when nothing says.
        num_bytes: Received by the last download.
    """

    outcome: Outcome | None = None
    offer: Offer | None = None
    is_clock_behind: bool = False
    floor_unix_s: int = 0
    num_bytes: int = 0


class UpdateClient:
    """Finds and downloads bundles from a signed repository.

    Args:
        config: Where they are, and what that may cost.
        state_dir: Folder of its own for what must outlive the process; holds `pinned-root.json`.
        clock: Where the time comes from.
    """

    def __init__(self, config: UpdateConfig, state_dir: Path, clock: Clock | None = None) -> None:
        config.check()
        self.status = UpdateStatus()
        self._config = config
        self._state_dir = state_dir
        self._clock: Clock = clock or SystemClock()
        self._http = Http(self._clock, config.limits)
        self._not_before_s = 0.0

    def refresh(self, installed: Seen | None = None) -> Offer | None:
        """Look for a newer bundle for this board, channel and name.

        Args:
            installed: What the board has; None when it has nothing, or nobody knows.

        Returns:
            The newest bundle; None when it is the installed one, or there is none.

        Raises:
            UpdateError: Refused, or not reached: `outcome.name` says why. What the board has stays as it is.
            MissingDependencyError: python-tuf is not installed.
        """
        with self._noting(), self._locked():
            self._wait_if_asked()
            offer = self._refresh(installed)
            self.status = msgspec.structs.replace(self.status, outcome=None, offer=offer)
            return offer

    def fetch(self, offer: Offer, folder: Path, follow: Callable[[int], None] | None = None) -> Path:
        """Download what was offered, or the rest of it.

        Args:
            offer: From `refresh`.
            folder: Where the file goes; an unfinished one stays there for the next time.
            follow: Called with the number of bytes that are there.

        Returns:
            The `.ekb` file: the signed one, which says of itself what the signed list says. Synced.

        Raises:
            UpdateError: As `refresh`.
        """
        with self._noting(), self._locked():
            self._wait_if_asked()
            path = folder / offer.file_name
            download = Download(self._http, self._clock, self._config.limits, follow)
            try:
                wanted = Wanted(url=offer.url, size_bytes=offer.size_bytes, hashes={"sha256": offer.sha256})
                download.run(wanted, path)
            finally:
                self.status = msgspec.structs.replace(self.status, num_bytes=download.num_bytes)
            _check_bundle(path, offer)
            self._remember(offer)
            self.status = msgspec.structs.replace(self.status, outcome=None)
            return path

    def pin_root(self, content: bytes) -> None:
        """Trust a root that came by a safe way. One that is trusted already is left as it is.

        Args:
            content: Of `root.json`, any version.

        Raises:
            UpdateError: "malformed": no root, or not signed by its own keys; "storage".
        """
        _require_tuf()
        from edgekit.agent.update.trusted import parse_root

        if parse_root(content) is None:
            raise update_error("malformed", "what should be pinned is no root metadata signed by its own keys")
        path = self._state_dir / PINNED_ROOT
        try:
            make_folder(self._state_dir)
            if not path.exists():
                write_durably(path, content)
        except OSError as error:
            raise storage_error(path, error) from error

    def _refresh(self, installed: Seen | None) -> Offer | None:
        trusted = self._trusted()
        try:
            before = trusted.read_root()
            try:
                return self._refresh_once(trusted, installed)
            except UpdateError:
                # with a new root other keys count; marks and time floor of the old ones fall: once more with all of it
                if trusted.read_root() == before:
                    raise
                return self._refresh_once(trusted, installed)
        except OSError as error:
            raise storage_error(trusted.folder, error) from error

    def _refresh_once(self, trusted: TrustedFolder, installed: Seen | None) -> Offer | None:
        with self._session(trusted) as session:
            targets = session.refresh()
            offer = newest_offer(targets.targets, self._config)
            if offer is None:
                return None
            for mark in trusted.marks.read().releases:
                if (mark.channel, mark.board) == (offer.channel, offer.board):
                    is_newer(offer, Seen(name=mark.name, release=mark.release, digest=mark.digest))
            url = _target_url(self._config.targets_url, offer, has_hash=session.has_consistent_snapshots)
            return msgspec.structs.replace(offer, url=url) if is_newer(offer, installed) else None

    @contextlib.contextmanager
    def _session(self, trusted: TrustedFolder) -> Generator[Session, None, None]:
        from edgekit.agent.update.fetcher import MetadataFetcher
        from edgekit.agent.update.trusted import Session

        fetcher = MetadataFetcher(self._http, self._clock, self._config.limits)
        try:
            with trusted.stage() as staging:
                session = Session(trusted, staging, fetcher, self._config.metadata_url, self._clock)
                self.status = msgspec.structs.replace(
                    self.status, is_clock_behind=session.is_clock_behind, floor_unix_s=session.floor_s
                )
                if session.is_clock_behind:
                    _logger.warning("this board's clock is earlier than its newest metadata: that time counts instead")
                yield session
        except OSError as error:
            raise storage_error(trusted.folder, error) from error

    def _remember(self, offer: Offer) -> None:
        """From now on, nothing lower and nothing else of this number is taken."""
        trusted = self._trusted()  # first: it says when python-tuf is not there
        from edgekit.agent.update.marks import ReleaseMark

        mark = ReleaseMark(
            channel=offer.channel, board=offer.board, name=offer.name, release=offer.release, digest=offer.digest
        )
        key = (mark.channel, mark.board, mark.name)
        try:
            marks = trusted.marks.read()
            others = [known for known in marks.releases if (known.channel, known.board, known.name) != key]
            releases = tuple(sorted([*others, mark], key=lambda known: (known.channel, known.board, known.name)))
            trusted.marks.write(msgspec.structs.replace(marks, releases=releases))
        except OSError as error:
            raise storage_error(trusted.marks.path, error) from error

    def _trusted(self) -> TrustedFolder:
        _require_tuf()
        from edgekit.agent.update.trusted import TrustedFolder

        folder = self._state_dir
        return TrustedFolder(folder / _METADATA_DIR, folder / _MARKS, folder / PINNED_ROOT)

    def _wait_if_asked(self) -> None:
        """Ask nothing of a server that asked to be left alone."""
        left_s = self._not_before_s - self._clock.monotonic_s()
        last = self.status.outcome
        if left_s > 0 and last is not None:
            raise UpdateError(msgspec.structs.replace(last, retry_after_s=left_s))

    @contextlib.contextmanager
    def _noting(self) -> Generator[None, None, None]:
        """Keep the outcome of what fails, and the moment before which a server wants no more questions."""
        try:
            yield
        except UpdateError as error:
            self.status = msgspec.structs.replace(self.status, outcome=error.outcome)
            if error.outcome.retry_after_s is not None:
                self._not_before_s = self._clock.monotonic_s() + error.outcome.retry_after_s
            raise

    @contextlib.contextmanager
    def _locked(self) -> Generator[None, None, None]:
        """One process at a time.

        Raises:
            UpdateError: "busy", or "storage".
        """
        path = self._state_dir / _LOCK
        try:
            make_folder(self._state_dir)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error(path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise update_error("busy", f"another process looks for updates ({path} is locked)") from error
        finally:
            os.close(descriptor)


def _require_tuf() -> None:
    """Make sure that python-tuf is there.

    Raises:
        MissingDependencyError: It is not.
    """
    try:
        importlib.import_module("tuf.ngclient")
    except ImportError as error:
        raise MissingDependencyError(
            f"signed updates need tuf and securesystemslib, which are not installed ({error})",
            hint="pip install edgekit[agent]",
        ) from error


def _target_url(base: str, offer: Offer, *, has_hash: bool) -> str:
    """Where a target lies (TUF specification, 6.2: with consistent snapshots its hash stands before its name)."""
    folder, _, name = offer.path.rpartition("/")
    return f"{base.rstrip('/')}/{folder}/{offer.sha256 + '.' if has_hash else ''}{name}"


def _check_bundle(path: Path, offer: Offer) -> None:
    """Hold the bundle against what the signed list says of it.

    Raises:
        UpdateError: "wrong_bundle"; the file is removed.
    """
    try:
        bundle = open_bundle(path)
        manifest = bundle.manifest
        found = (manifest.name, manifest.release, bundle.digest)
        if found == (offer.name, offer.release, offer.digest) and offer.board in manifest.compatible.boards:
            return
        trouble = f"it is {manifest.name} release {manifest.release} for {', '.join(manifest.compatible.boards)}"
    except (IntegrityError, DataError) as error:
        trouble = error.message
    path.unlink(missing_ok=True)
    raise update_error("wrong_bundle", f"{offer.path} is not what the signed list says of it: {trouble}")
