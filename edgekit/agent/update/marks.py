"""High-water marks: the newest that was ever trusted, kept apart from the metadata files.

A client that keeps its metadata files only, unsynced, can lose timestamp and snapshot in a power cut, and then takes an
old repository for a new one: all its signatures are good. The marks say what was seen, and are synced.

A mark stands as long as the keys that signed what it was taken from would still be enough. When a role's keys are
replaced because an attacker used them to publish a version of a million, its marks fall with them (TUF specification,
5.3.11, fast-forward attack recovery): the same rule that python-tuf applies to its files.
"""

# python-tuf offers its classes in tuf.api.metadata without saying so in a way that pyright knows.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
from tuf.api.metadata import Metadata, Root, Snapshot, Timestamp

from edgekit.agent.update.durable import make_folder, read_if_there, write_durably
from edgekit.bundle.release import SIGNED_AT_KEY

_YEAR_9999_S = 253_370_764_800
"""Python's dates end there."""


class TimestampMark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest timestamp.

    Args:
        version: Its version.
        snapshot: Version of the snapshot that it names.
        signed_unix_s: When it was signed, as it says; 0 where it does not.
        key_ids: Of the good signatures on it.
    """

    version: int
    snapshot: int
    signed_unix_s: int
    key_ids: tuple[str, ...]


class SnapshotMark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest snapshot.

    Args:
        versions: Of each file that it names.
        key_ids: Of the good signatures on it.
    """

    versions: dict[str, int]
    key_ids: tuple[str, ...]


class ReleaseMark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest bundle of a name that was downloaded.

    Args:
        channel: Of its target.
        board: Of its target.
        name: Of what was released.
        release: Its number.
        digest: Of its manifest.
    """

    channel: str
    board: str
    name: str
    release: int
    digest: str


class Marks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All marks of a board.

    Args:
        root: Version of the newest root; 0 for none.
        timestamp: None for none.
        snapshot: None for none.
        releases: One for each channel, board and name.
        version: Of this file.
    """

    root: int = 0
    timestamp: TimestampMark | None = None
    snapshot: SnapshotMark | None = None
    releases: tuple[ReleaseMark, ...] = ()
    version: int = 1


def stands(key_ids: tuple[str, ...], root: Root, role: str) -> bool:
    """Whether what these keys signed would still count as signed by a role.

    Args:
        key_ids: Of good signatures.
        root: That is trusted now.
        role: "timestamp" or "snapshot".
    """
    keys = root.roles[role]
    return len(set(key_ids) & set(keys.keyids)) >= keys.threshold


def timestamp_rollback(marks: Marks, root: Root, timestamp: Timestamp) -> str | None:
    """What is older in a timestamp than what was seen before; None when nothing is."""
    mark = marks.timestamp
    if mark is None or not stands(mark.key_ids, root, "timestamp"):
        return None
    if timestamp.version < mark.version:
        return f"timestamp version {timestamp.version}, {mark.version} was seen before"
    if timestamp.snapshot_meta.version < mark.snapshot:
        return f"timestamp names snapshot version {timestamp.snapshot_meta.version}, {mark.snapshot} was seen before"
    return None


def snapshot_rollback(marks: Marks, root: Root, snapshot: Snapshot) -> str | None:
    """What is older in a snapshot than what was seen before, or not there any more; None when nothing is."""
    mark = marks.snapshot
    if mark is None or not stands(mark.key_ids, root, "snapshot"):
        return None
    for name, version in mark.versions.items():
        now = snapshot.meta.get(name)
        if now is None:
            return f"snapshot no longer names {name}, version {version} was seen before"
        if now.version < version:
            return f"snapshot names {name} version {now.version}, {version} was seen before"
    return None


def mark_timestamp(marks: Marks, root: Root, metadata: Metadata[Timestamp]) -> Marks:
    """The marks with a timestamp that was checked."""
    mark = TimestampMark(
        version=metadata.signed.version,
        snapshot=metadata.signed.snapshot_meta.version,
        signed_unix_s=signed_unix_s(metadata.signed),
        key_ids=_good_keys(root, "timestamp", metadata),
    )
    return msgspec.structs.replace(marks, timestamp=mark)


def mark_snapshot(marks: Marks, root: Root, metadata: Metadata[Snapshot]) -> Marks:
    """The marks with a snapshot that was checked."""
    versions = {name: meta.version for name, meta in metadata.signed.meta.items()}
    mark = SnapshotMark(versions=versions, key_ids=_good_keys(root, "snapshot", metadata))
    return msgspec.structs.replace(marks, snapshot=mark)


def signed_unix_s(signed: Root | Timestamp) -> int:
    """When metadata was signed, as it says, seconds since 1970; 0 where it says nothing, or what no date can be."""
    said = cast("object", signed.unrecognized_fields.get(SIGNED_AT_KEY))
    return said if isinstance(said, int) and not isinstance(said, bool) and 0 < said < _YEAR_9999_S else 0


def time_floor_s(marks: Marks, root: Root) -> int:
    """A moment that has passed for certain, seconds since 1970: something trusted was signed then.

    A board without a battery wakes up in 1970, and nothing is ever expired then. With the floor, it is at least as late
    as the newest root and timestamp that it knows.
    """
    mark = marks.timestamp
    seen = mark.signed_unix_s if mark is not None and stands(mark.key_ids, root, "timestamp") else 0
    return max(seen, signed_unix_s(root))


def _good_keys(root: Root, role: str, metadata: Metadata[Timestamp] | Metadata[Snapshot]) -> tuple[str, ...]:
    result = root.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    return tuple(sorted(result.signed))


class MarksFile:
    """The marks on disk.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Marks:
        """The marks; none where there is no file, or one that cannot be read as marks.

        Raises:
            OSError: The disk failed.
        """
        content = read_if_there(self.path)
        try:
            return Marks() if content is None else msgspec.json.decode(content, type=Marks)
        except msgspec.DecodeError:
            return Marks()  # the metadata files still say what was seen; the file is made anew of them

    def write(self, marks: Marks) -> None:
        """Write them, synced; not at all when they are there already (flash wears out).

        Raises:
            OSError: They cannot be written.
        """
        content = msgspec.json.encode(marks) + b"\n"
        if read_if_there(self.path) != content:
            make_folder(self.path.parent)
            write_durably(self.path, content)
