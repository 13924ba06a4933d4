"""The metadata that a board trusts, on disk.

python-tuf checks in a copy; what it accepted is held against the marks, then synced and moved into place.
"""

# python-tuf offers its classes in tuf.api.metadata without saying so in a way that pyright knows.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
from tuf.api.exceptions import RepositoryError, StorageError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig

from edgekit.agent.update.clock import Clock
from edgekit.agent.update.durable import make_folder, read_if_there, write_durably
from edgekit.agent.update.explain import TUF_ERRORS, explain
from edgekit.agent.update.fetcher import FetchError, MetadataFetcher
from edgekit.agent.update.marks import (
    Marks,
    MarksFile,
    mark_snapshot,
    mark_timestamp,
    signed_unix_s,
    snapshot_rollback,
    time_floor_s,
    timestamp_rollback,
)
from edgekit.agent.update.outcome import UpdateError, update_error

_ROOT, _TIMESTAMP, _SNAPSHOT, _TARGETS = "root.json", "timestamp.json", "snapshot.json", "targets.json"
_CLOCK_HINT = "if this board's clock is ahead, nothing is ever fresh: set the time; else publish again"


class TrustedFolder:
    """Metadata files under their plain names, and the marks.

    Args:
        folder: Where the metadata files lie.
        marks_path: Where the marks lie.
        pinned_root_path: The root that came by a safe way; None when `root.json` in the folder is it.
    """

    def __init__(self, folder: Path, marks_path: Path, pinned_root_path: Path | None = None) -> None:
        self.folder = folder
        self.marks = MarksFile(marks_path)
        self._pinned_root_path = pinned_root_path

    def read_root(self) -> bytes:
        """The newest trusted root, as it came; the pinned one when the newest was lost.

        Raises:
            UpdateError: "no_root".
            OSError: The disk failed.
        """
        places = (self.folder / _ROOT, self._pinned_root_path)
        for place in filter(None, places):
            content = read_if_there(place)
            if content is not None and parse_root(content) is not None:
                return content
        tried = " or ".join(str(place) for place in places if place is not None)
        raise update_error("no_root", f"no root metadata at {tried}", hint="pin it: edgekit flash does")

    @contextlib.contextmanager
    def stage(self) -> Generator[Path, None, None]:
        """A copy of the files for python-tuf to work in, among the temporary files; removed at the end.

        Raises:
            OSError: The disk failed.
        """
        make_folder(self.folder)
        with tempfile.TemporaryDirectory(prefix="edgekit-metadata-") as name:
            staging = Path(name)
            for path in self.folder.glob("*.json"):
                if path.name != _ROOT:
                    shutil.copyfile(path, staging / path.name)
            yield staging

    def changed(self, staging: Path) -> dict[str, bytes]:
        """Files of the copy that are new or different, by name."""
        found = {path.name: path.read_bytes() for path in staging.glob("*.json")}
        return {name: content for name, content in found.items() if read_if_there(self.folder / name) != content}

    def commit(self, files: dict[str, bytes], marks: Marks) -> None:
        """Write marks and files, synced, in an order that survives a power cut anywhere: the root goes last.

        With the old root, everything else is checked against the old keys; a newer root is simply found again.
        """
        self.marks.write(marks)
        for name in sorted(files, key=lambda name: (name == _ROOT, name)):
            write_durably(self.folder / name, files[name])


def parse_root(content: bytes) -> Root | None:
    """Root metadata that its own keys signed; None for anything else."""
    try:
        metadata = Metadata[Root].from_bytes(content)
        if not isinstance(metadata.signed, Root):  # pyright: ignore[reportUnnecessaryIsInstance] - a file may be any role
            return None
        metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError):
        return None
    return metadata.signed


class Session:
    """One refresh and the look-ups after it, all of one state of the repository.

    Args:
        trusted: What is trusted before, and afterwards.
        staging: Copy of its files.
        fetcher: Downloads.
        metadata_url: Folder of the repository's metadata.
        clock: Says what day it is.
    """

    def __init__(
        self, trusted: TrustedFolder, staging: Path, fetcher: MetadataFetcher, metadata_url: str, clock: Clock
    ) -> None:
        self._trusted = trusted
        self._staging = staging
        self._fetcher = fetcher
        root = trusted.read_root()
        self._marks = trusted.marks.read()
        self.floor_s = time_floor_s(self._marks, Metadata[Root].from_bytes(root).signed)
        self.is_clock_behind = clock.unix_s() < self.floor_s
        self._now = dt.datetime.fromtimestamp(max(clock.unix_s(), self.floor_s), dt.timezone.utc)
        self._updater = Updater(str(staging), metadata_url, fetcher=fetcher, config=UpdaterConfig(), bootstrap=root)
        # ngclient reads the machine's clock and takes no other; the floor has to be told all the same
        self._updater._trusted_set.reference_time = self._now  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def refresh(self) -> Targets:
        """Bring root, timestamp, snapshot and targets up to date; gives the targets.

        Raises:
            UpdateError: Refused, or not reached; what was accepted up to there is kept.
            OSError: The disk failed.
        """
        self._guard(self._updater.refresh)
        return self._read(_TARGETS, Targets)

    def find(self, target_path: str) -> TargetFile | None:
        """Look a target up through all delegations. Raises as `refresh`."""
        found: list[TargetFile | None] = []
        self._guard(lambda: found.append(self._updater.get_targetinfo(target_path)))
        return found[0]

    @property
    def has_consistent_snapshots(self) -> bool:
        """Whether the repository's file names hold hashes and versions."""
        return self._read(_ROOT, Root).consistent_snapshot

    def _guard(self, work: Any) -> None:  # noqa: ANN401 - what it gives is not looked at
        """Let python-tuf work, and keep what it accepted unless the marks say otherwise."""
        try:
            work()
        except TUF_ERRORS as error:
            self._fetcher.hang_up()
            self._keep(only_changed=True)
            if isinstance(error, FetchError):
                raise error.cause from error
            root = self._read(_ROOT, Root)
            outcome = explain(error, root, self._fetcher.last, self._expired_role(root))
            hint = f"here it is {self._now:%Y-%m-%d %H:%M} UTC; {_CLOCK_HINT}" if outcome.name == "expired" else None
            raise UpdateError(outcome, hint=hint) from error
        self._keep(only_changed=False)
        self._check_age()

    def _keep(self, *, only_changed: bool) -> None:
        """Hold the staged files against the marks, then commit them.

        Args:
            only_changed: Look at new files alone: after a failure, old ones say nothing of what the server did.
        """
        changed = self._trusted.changed(self._staging)
        root = self._read(_ROOT, Root)
        marks = self._marks
        if root.version < marks.root:
            message = f"root version {root.version} is the newest there, {marks.root} was seen before"
            raise update_error("rollback", message, role="root")
        marks = msgspec.structs.replace(marks, root=root.version)
        looked_at = changed if only_changed else {path.name for path in self._staging.glob("*.json")}
        if _TIMESTAMP in looked_at:
            timestamp = Metadata[Timestamp].from_file(str(self._staging / _TIMESTAMP))
            self._refuse("timestamp", timestamp_rollback(marks, root, timestamp.signed))
            marks = mark_timestamp(marks, root, timestamp)
        if _SNAPSHOT in looked_at:
            snapshot = Metadata[Snapshot].from_file(str(self._staging / _SNAPSHOT))
            self._refuse("snapshot", snapshot_rollback(marks, root, snapshot.signed))
            marks = mark_snapshot(marks, root, snapshot)
        self._trusted.commit(changed, marks)
        self._marks = marks

    def _expired_role(self, root: Root) -> str | None:
        """Which of those that come before snapshot and targets is too old."""
        if root.is_expired(self._now):
            return "root"
        try:
            return "timestamp" if self._read(_TIMESTAMP, Timestamp).is_expired(self._now) else None
        except (RepositoryError, StorageError):
            return None

    def _check_age(self) -> None:
        """Once more with what the new timestamp says of the time: on a board of 1970 nothing was expired so far."""
        timestamp = self._read(_TIMESTAMP, Timestamp)
        moment = dt.datetime.fromtimestamp(signed_unix_s(timestamp), dt.timezone.utc)
        if moment <= self._now:
            return
        for name, kind in ((_ROOT, Root), (_SNAPSHOT, Snapshot), (_TARGETS, Targets)):
            if self._read(name, kind).is_expired(moment):
                role = kind.type
                message = f"the metadata of role {role} was too old already when the timestamp was signed"
                raise update_error("expired", message, role=role)

    def _read(self, name: str, kind: type[Any]) -> Any:  # noqa: ANN401 - one of the four roles
        return Metadata[kind].from_file(str(self._staging / name)).signed

    @staticmethod
    def _refuse(role: str, what: str | None) -> None:
        if what is not None:
            raise update_error("rollback", what, role=role)
