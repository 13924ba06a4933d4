"""The pictures below a folder, by name."""

from __future__ import annotations

import os
from pathlib import Path

from edgekit.core.errors import DataError, UsageError
from edgekit.runtime.reading import PICTURE_SUFFIXES


def list_pictures(folder: Path) -> list[str]:
    """Paths of the pictures in a folder and below it, sorted; hidden files and folders are skipped.

    Strings, because a million `Path` objects take 0.5 GB.

    Raises:
        UsageError: No such folder.
        DataError: It cannot be read, or there is no picture.
    """
    if not folder.is_dir():
        raise UsageError(f"no folder at {folder}", hint="name a folder of pictures")

    def fail(error: OSError) -> None:
        raise DataError(f"cannot read folder {error.filename}: {error.strerror or error}") from error

    found: list[str] = []
    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(parent, name)  # noqa: PTH118 - a string, see above
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES  # noqa: PTH122
        ]
    if not found:
        suffixes = ", ".join(sorted(PICTURE_SUFFIXES))
        raise DataError(f"no pictures in {folder}", hint=f"files that end with {suffixes} are read")
    return sorted(found)
