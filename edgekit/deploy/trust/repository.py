"""The published repository: read and checked before anything is added, and written in the order that a plan says.

metadata/1.root.json 2.root.json ...      every root
metadata/5.targets.json 9.snapshot.json   every version, never changed once it is there
metadata/timestamp.json                   the one file that is replaced
targets/CHANNEL/BOARD/SHA256.NAME-RELEASE.ekb
"""

# python-tuf offers its classes in tuf.api.metadata without saying so in a way that pyright knows.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from edgekit.core.errors import IntegrityError, OutputError, UsageError
from edgekit.core.storage import atomic_writer
from edgekit.deploy.trust.keyring import Keyring

METADATA_DIR, TARGETS_DIR, TIMESTAMP = "metadata", "targets", "metadata/timestamp.json"
_VERSIONED = re.compile(r"([1-9][0-9]{0,8})\.(root|targets|snapshot)\.json")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One file to write.

    Args:
        path: Below the repository's folder, with slashes.
        content: Its bytes; None when it is copied.
        source_path: Of the file to copy; None when there is content.
    """

    path: str
    content: bytes | None = None
    source_path: Path | None = None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a repository holds.

    Args:
        root_version: The newest root that boards can find; 0 for a new repository.
        targets: The signed list; None for a new repository.
        snapshot: None for a new repository.
        timestamp: None for a new repository.
        highest: Highest version of each role among the files, also those that nothing names.
    """

    root_version: int
    targets: Targets | None
    snapshot: Snapshot | None
    timestamp: Timestamp | None
    highest: dict[str, int]


def check_place(text: str) -> Path:
    """The folder that a repository goes to.

    Raises:
        UsageError: An address on a network.
    """
    if "://" in text:
        raise UsageError(
            f"cannot write to {text}",
            hint="publish into a folder and copy it there, metadata/timestamp.json last (docs/trust.md)",
        )
    return Path(text)


def read_state(folder: Path, keyring: Keyring) -> State:
    """Read a repository and check it against the keyring, down from the root; dates do not matter here.

    Raises:
        IntegrityError: It belongs to other keys, or was tampered with.
        UsageError: It cannot be read.
    """
    metadata_dir = folder / METADATA_DIR
    matches = [_VERSIONED.fullmatch(path.name) for path in metadata_dir.glob("*.json")]
    highest: dict[str, int] = {}
    for match in filter(None, matches):
        highest[match[2]] = max(highest.get(match[2], 0), int(match[1]))
    if not highest and not (folder / TIMESTAMP).exists():
        return State(root_version=0, targets=None, snapshot=None, timestamp=None, highest={})
    root_version = highest.get("root", 0)
    for version in range(1, root_version + 1):
        if version > keyring.root.version or _read(folder, f"{version}.root.json") != keyring.root_content(version):
            raise IntegrityError(
                f"{metadata_dir}/{version}.root.json is not of the keys in {keyring.folder}",
                hint="use the keys that the repository was made with, or another folder",
            )
    if not root_version or not (folder / TIMESTAMP).exists():  # the very first publication was interrupted
        return State(root_version=root_version, targets=None, snapshot=None, timestamp=None, highest=highest)
    # a publication that was interrupted between root and timestamp leaves files that an older root's keys signed
    roots = keyring.roots[:root_version][::-1]
    timestamp = _verified(folder, "timestamp.json", Timestamp, roots)
    snapshot = _verified(folder, f"{timestamp.snapshot_meta.version}.snapshot.json", Snapshot, roots)
    targets = _verified(folder, f"{snapshot.meta['targets.json'].version}.targets.json", Targets, roots)
    return State(root_version=root_version, targets=targets, snapshot=snapshot, timestamp=timestamp, highest=highest)


def write_steps(folder: Path, steps: Iterable[Step]) -> None:
    """Write files in order, each of them whole, synced and under its name before the next begins.

    A file that is there already is left when it is the same. None but the timestamp is ever changed.

    Raises:
        OutputError: It cannot be written, or another file has its name.
    """
    for step in steps:
        path = folder / step.path
        try:
            if step.path != TIMESTAMP and path.exists():
                if _hash(path) != _wanted_hash(step):
                    raise OutputError(f"{path} is there already, with other content", hint="nothing was replaced")
                continue
            with atomic_writer(path) as stream:
                if step.content is not None:
                    stream.write(step.content)
                elif step.source_path is not None:
                    with step.source_path.open("rb") as source:
                        shutil.copyfileobj(source, stream)
            _sync_folder(path.parent)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _verified(folder: Path, name: str, kind: type[Any], roots: list[Root]) -> Any:  # noqa: ANN401 - of that kind
    """Metadata that one of the roots, the newest first, says is good."""
    content = _read(folder, name)
    try:
        metadata = Metadata[kind].from_bytes(content)
        if metadata.signed.type != kind.type:
            raise IntegrityError(f"{folder}/{METADATA_DIR}/{name} is {metadata.signed.type} metadata")
    except RepositoryError as error:
        raise IntegrityError(f"{folder}/{METADATA_DIR}/{name} is no metadata: {error}") from error
    for root in roots:
        result = root.get_verification_result(kind.type, metadata.signed_bytes, metadata.signatures)
        if result.verified:
            return metadata.signed
    raise IntegrityError(
        f"{folder}/{METADATA_DIR}/{name} is not signed by the keys of its role",
        hint="somebody else wrote there: publish into another folder, and find out who",
    )


def _read(folder: Path, name: str) -> bytes:
    path = folder / METADATA_DIR / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error


def _wanted_hash(step: Step) -> str:
    if step.content is not None:
        return hashlib.sha256(step.content).hexdigest()
    return _hash(step.source_path) if step.source_path is not None else ""


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
