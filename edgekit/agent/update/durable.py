"""Files that a power cut leaves as they were or as they should be, never empty and never half."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from edgekit.agent.update.outcome import UpdateError, update_error

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def write_durably(path: Path, content: bytes) -> None:
    """Write a file: content synced before it gets its name, the name synced before this returns.

    A rename alone is not enough: after a power cut, ext4 and others may have kept the new name and lost the content.

    Raises:
        OSError: It cannot be written. What was there is still there.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last.

    Raises:
        OSError: It cannot be synced.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder with its parents, each one's name synced.

    Raises:
        OSError: It cannot be made.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        sync_folder(place.parent)


def read_if_there(path: Path) -> bytes | None:
    """A file's content; None when there is none.

    Raises:
        OSError: It is there and cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def storage_error(path: Path, error: OSError) -> UpdateError:
    """The outcome of a disk that failed."""
    name = "disk_full" if error.errno in _FULL else "storage"
    return update_error(name, f"{path}: {error.strerror or error}", hint="check free space and permissions there")
