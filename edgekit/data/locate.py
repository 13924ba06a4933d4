"""Where the files of a dataset lie: `$EDGEKIT_DATA`, then the user's cache, then a download into the cache."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

from edgekit.core.errors import DataError
from edgekit.data.dataset import RemoteFile

DATA_VARIABLE = "EDGEKIT_DATA"


def data_dirs() -> tuple[Path, ...]:
    """Folders named in `$EDGEKIT_DATA` (separated as `$PATH` is), in order."""
    entries = os.environ.get(DATA_VARIABLE, "").split(os.pathsep)
    return tuple(Path(entry).expanduser() for entry in entries if entry)


def cache_dir() -> Path:
    """Folder for downloads and decoded archives; may not exist yet."""
    return platformdirs.user_cache_path("edgekit") / "data"


def candidate_paths(dataset: str, file_name: str) -> list[Path]:
    """Every place where a file (or folder) of a dataset may lie, the best first."""
    folders = (dataset, dataset.replace("_", "-"))
    candidates = [root / folder / file_name for root in data_dirs() for folder in folders]
    candidates += [root / file_name for root in data_dirs()]
    candidates.append(cache_dir() / dataset / file_name)
    return list(dict.fromkeys(candidates))


def hash_file(path: Path) -> str:
    """SHA-256 of a file, lower-case hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def find_file(dataset: str, file: RemoteFile) -> Path | None:
    """Find a file on disk.

    A file that lies directly in a folder of `$EDGEKIT_DATA` counts only with a known hash, because several datasets
    use the same file names (MNIST and Fashion-MNIST do). One in a folder named after the dataset is taken as it is.
    """
    loose = {root / file.name for root in data_dirs()}
    for path in candidate_paths(dataset, file.name):
        if path.is_file() and (path not in loose or hash_file(path) in file.known_sha256):
            return path
    return None


def obtain_file(dataset: str, file: RemoteFile) -> Path:
    """Find a file on disk, or download it into the cache.

    Raises:
        DataError: It is nowhere and cannot be downloaded; the message names it and every place looked at.
    """
    found = find_file(dataset, file)
    if found is not None:
        return found
    places = ", ".join(str(path) for path in candidate_paths(dataset, file.name))
    raise DataError(
        f"{dataset}: {file.name} not found; looked at {places}",
        hint=f"put the file into a folder named {dataset} and name its parent in ${DATA_VARIABLE}",
    )
