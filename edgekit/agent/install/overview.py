"""What is installed on a board, read without touching anything: while an installation runs, too."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from edgekit.agent.install.disk import CURRENT, PREVIOUS, RELEASES
from edgekit.agent.install.installer import RECORD
from edgekit.agent.install.machine import Job
from edgekit.agent.install.probation import Probation
from edgekit.agent.install.record import DamagedRecordError, PastEvent, Quarantined, Record
from edgekit.bundle.reading import read_manifest
from edgekit.core.errors import EdgekitError, OutputError

Role: TypeAlias = Literal["current", "previous", "other"]


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """One release on the disk.

    Args:
        digest: SHA-256 of its manifest, the name of its folder.
        role: What names it.
        name: Of what is released; "" when its manifest cannot be read.
        release: Its counter.
        size_bytes: Of its files.
    """

    digest: str
    role: Role
    name: str
    release: int
    size_bytes: int


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All of it.

    Args:
        state_dir: The folder.
        releases: `current` first, then `previous`, then what an installation is working on.
        job: The installation that is under way, or the last one.
        quarantine: What is not taken again by itself.
        events: The last transitions, newest first.
        detail: Why the record could not be read; "" when it could, or there is none yet.
        probation: The release that has not proved itself yet; None for none.
    """

    state_dir: str
    releases: tuple[Release, ...]
    job: Job
    quarantine: tuple[Quarantined, ...]
    events: tuple[PastEvent, ...]
    detail: str = ""
    probation: Probation | None = None


def read_overview(state_dir: Path) -> Overview:
    """Look at a board's releases; an empty or missing folder has none."""
    there = Overview(
        state_dir=str(state_dir), releases=tuple(_read_releases(state_dir)), job=Job(), quarantine=(), events=()
    )
    path = state_dir / RECORD
    if not path.exists():
        return there
    try:
        record = Record(path, read_only=True)
    except (DamagedRecordError, OutputError) as error:
        return msgspec.structs.replace(there, detail=str(error))
    try:
        return msgspec.structs.replace(
            there,
            job=record.job(),
            quarantine=record.quarantined(),
            events=record.events(),
            probation=record.probation(),
        )
    except (DamagedRecordError, OutputError) as error:
        return msgspec.structs.replace(there, detail=str(error))
    finally:
        record.close()


def _read_releases(state_dir: Path) -> list[Release]:
    roles: dict[str, Role] = {}
    for role in (PREVIOUS, CURRENT):
        link = state_dir / role
        if link.is_symlink():
            roles[link.readlink().name] = "current" if role == CURRENT else "previous"
    folder = state_dir / RELEASES
    digests = (
        [path.name for path in sorted(folder.iterdir()) if not path.name.startswith(".")] if folder.is_dir() else []
    )
    order = ("current", "previous", "other")
    releases = [_read_release(folder / digest, roles.get(digest, "other")) for digest in digests]
    return sorted(releases, key=lambda one: order.index(one.role))


def _read_release(folder: Path, role: Role) -> Release:
    try:
        manifest = read_manifest(folder)
    except EdgekitError:
        return Release(digest=folder.name, role=role, name="", release=0, size_bytes=0)
    return Release(
        digest=folder.name,
        role=role,
        name=manifest.name,
        release=manifest.release,
        size_bytes=sum(entry.size_bytes for entry in manifest.files),
    )
