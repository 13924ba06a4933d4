"""Where the files of a dataset lie: `$EDGEKIT_DATA`, then the user's cache, then a download into the cache."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

from edgekit.core.errors import DataError
from edgekit.data.dataset import RemoteFile

DATA_VARIABLE = "EDGEKIT_DATA"
_BLOCK_SIZE = 1 << 20


def data_dirs() -> tuple[Path, ...]:
    """Folders named in `$EDGEKIT_DATA` (separated as those of `$PATH` are), in order."""
    entries = os.environ.get(DATA_VARIABLE, "").split(os.pathsep)
    return tuple(Path(entry).expanduser() for entry in entries if entry)


def cache_dir() -> Path:
    """Folder for downloads and decoded archives; may not exist yet."""
    return platformdirs.user_cache_path("edgekit") / "data"


def candidate_paths(dataset: str, name: str) -> list[Path]:
    """Every place where a file or folder `name` of a dataset may lie, the best first.

    In each folder of `$EDGEKIT_DATA` that is a folder named after the dataset (`fashion_mnist` or `fashion-mnist`),
    or the folder itself; then the cache.
    """
    folders = (dataset, dataset.replace("_", "-"))
    candidates = [root / folder / name for root in data_dirs() for folder in folders]
    candidates += [root / name for root in data_dirs()]
    candidates.append(cache_dir() / dataset / name)
    return list(dict.fromkeys(candidates))


def hash_file(path: Path) -> str:
    """SHA-256 of a file, lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_SIZE):
            digest.update(block)
    return digest.hexdigest()


def find_file(dataset: str, file: RemoteFile) -> Path | None:
    """Find a file on disk; None when it is nowhere.

    A file that lies directly in a folder of `$EDGEKIT_DATA` counts only with a known hash, because several datasets
    use the same file names (MNIST and Fashion-MNIST do). One in a folder named after the dataset is taken as it is:
    the user put it there, and the reader checks its form.
    """
    loose = {root / file.name for root in data_dirs()}
    for path in candidate_paths(dataset, file.name):
        if path.is_file() and (path not in loose or hash_file(path) in file.known_sha256):
            return path
    return None


def find_files(dataset: str, files: tuple[RemoteFile, ...]) -> Path | None:
    """Find all files of a dataset; return the folder of the first, or None when one is nowhere."""
    paths = [find_file(dataset, file) for file in files]
    return paths[0].parent if paths and paths[0] is not None and None not in paths else None


def obtain_file(dataset: str, file: RemoteFile) -> Path:
    """Find a file on disk, or download it into the cache.

    Raises:
        DataError: It is nowhere and cannot be downloaded; the message names it and every place looked at.
    """
    found = find_file(dataset, file)
    if found is not None:
        return found
    from edgekit.data.download import download_file  # pooch and requests take longer to import than most data to read

    target = cache_dir() / dataset / file.name
    try:
        return download_file(file.url, target, sha256=file.sha256)
    except DataError as error:
        places = [str(path) for path in candidate_paths(dataset, file.name)]
        raise DataError(
            f"{dataset}: {file.name} is not on this machine (looked at {', '.join(places)}) "
            f"and cannot be downloaded: {error.message}",
            hint=f"get {file.url} elsewhere, put it into a folder named {dataset}, "
            f"and set {DATA_VARIABLE} to the folder around that",
        ) from error


def missing_folder_error(dataset: str, places: list[Path], *, layout: str) -> DataError:
    """Build the error for a dataset that has to be brought by the user and is not there."""
    looked = ", ".join(str(path) for path in places)
    return DataError(
        f"{dataset} is not on this machine and cannot be downloaded; looked at {looked}",
        hint=f"set {DATA_VARIABLE} to a folder that holds {layout}",
    )
