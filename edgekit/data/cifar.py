"""Readers for the forms in which CIFAR-10 lies about: the binary batches, and JPEG files in a folder or an archive."""

from __future__ import annotations

import logging
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import DataError, OutputError
from edgekit.core.storage import atomic_writer
from edgekit.data.dataset import Split
from edgekit.data.folder import open_folder
from edgekit.data.locate import cache_dir, candidate_paths, data_dirs, hash_file
from edgekit.data.memory import MemorySource
from edgekit.data.reading import load_into_memory
from edgekit.runtime.preprocess import decode_picture

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
_SIZE = 32
_RECORD_SIZE = 1 + 3 * _SIZE * _SIZE
_NUM_PICTURES = {"train": 50_000, "test": 10_000}
_JPEG_ARCHIVE = "cifar10.tar.xz"
_FOLDER = "cifar10"
JPEG_NAME = "cifar10_jpeg"
_LOG = logging.getLogger(__name__)


def read_binary_form(path: Path, split: Split) -> MemorySource:
    """Read one split from `cifar-10-binary.tar.gz`: records of one label byte and 3072 planar RGB bytes.

    Raises:
        DataError: The archive is damaged or holds another number of pictures.
    """
    prefix = "data_batch_" if split == "train" else "test_batch"
    batches = {name: content for name, content in _members(path) if PurePosixPath(name).name.startswith(prefix)}
    content = b"".join(batches[name] for name in sorted(batches))
    expected = _NUM_PICTURES[split] * _RECORD_SIZE
    if len(content) != expected:
        raise DataError(f"{path}: expected {expected} bytes of {split} pictures, got {len(content)}")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, _RECORD_SIZE)
    pictures = records[:, 1:].reshape(-1, 3, _SIZE, _SIZE).transpose(0, 2, 3, 1)
    return MemorySource(
        name="cifar10",
        split=split,
        class_names=CLASS_NAMES,
        pictures=np.ascontiguousarray(pictures),
        labels=records[:, 0].astype(np.int64),
    )


def find_jpeg_form() -> Path | None:
    """Find `cifar10.tar.xz`, or the folder `cifar10/{train,test}`, in `$EDGEKIT_DATA` or the cache."""
    archives = [path for path in candidate_paths(_FOLDER, _JPEG_ARCHIVE) if path.is_file()]
    folders = [root / _FOLDER for root in (*data_dirs(), cache_dir())]
    archives += [folder for folder in folders if (folder / "train").is_dir() and (folder / "test").is_dir()]
    return archives[0] if archives else None


def jpeg_form_places() -> list[Path]:
    """Every place that `find_jpeg_form` looks at."""
    return [*candidate_paths(_FOLDER, _JPEG_ARCHIVE), *(root / _FOLDER for root in (*data_dirs(), cache_dir()))]


def read_jpeg_form(path: Path, split: Split) -> MemorySource:
    """Read one split from what `find_jpeg_form` found.

    Decoding 60,000 files of an archive takes seconds, so the pixels are kept in the cache under the archive's hash.
    Pictures are in the order of their paths, whatever the order in the archive.

    Raises:
        DataError: The archive is damaged, a picture is unreadable, or pictures are missing.
    """
    if path.is_dir():
        return load_into_memory(open_folder(path, split, name=JPEG_NAME))
    cache_path = cache_dir() / JPEG_NAME / f"{hash_file(path)[:16]}.npz"
    arrays = _read_cached(cache_path, split)
    if arrays is None:
        decoded = _decode_archive(path)
        try:
            with atomic_writer(cache_path) as stream:
                np.savez(stream, allow_pickle=False, **decoded)
        except OutputError as error:
            _LOG.warning("the decoded pictures are not kept: %s", error.message)
        arrays = decoded[f"{split}_pictures"], decoded[f"{split}_labels"]
    pictures, labels = arrays
    return MemorySource(
        name=JPEG_NAME, split=split, class_names=CLASS_NAMES, pictures=pictures, labels=labels.astype(np.int64)
    )


def _read_cached(path: Path, split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None:
    """Read one split from the cache; None when it is not there or damaged (a zip checks its members' CRC)."""
    if not path.is_file():
        return None
    try:
        # Opened here, because np.load leaves a file open that turns out to be no archive.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return archive[f"{split}_pictures"], archive[f"{split}_labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        _LOG.warning("decoding again, because %s is damaged: %s", path, error)
        return None


def _decode_archive(path: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Decode every JPEG of the archive: `{train,test}_pictures` uint8 [n, 32, 32, 3], `{train,test}_labels` [n]."""
    found: dict[str, dict[str, npt.NDArray[np.uint8]]] = {"train": {}, "test": {}}
    for name, content in _members(path):
        parts = PurePosixPath(name).parts
        if len(parts) < 3 or parts[-3] not in found or parts[-2] not in CLASS_NAMES:
            continue
        picture = decode_picture(content, name=f"{path}: {name}")
        if picture.shape != (_SIZE, _SIZE, 3):
            raise DataError(f"{path}: {name} is {list(picture.shape)}, expected [{_SIZE}, {_SIZE}, 3]")
        found[parts[-3]]["/".join(parts[-2:])] = picture
    arrays: dict[str, npt.NDArray[np.uint8]] = {}
    for split, pictures in found.items():
        if len(pictures) != _NUM_PICTURES[split]:
            raise DataError(f"{path}: expected {_NUM_PICTURES[split]} {split} pictures, got {len(pictures)}")
        names = sorted(pictures)
        arrays[f"{split}_pictures"] = np.stack([pictures[name] for name in names])
        labels = [CLASS_NAMES.index(name.split("/")[0]) for name in names]
        arrays[f"{split}_labels"] = np.array(labels, dtype=np.uint8)
    return arrays


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Stream the regular files of a tar archive, in its own order, without unpacking anything to disk."""
    try:
        with tarfile.open(path, mode="r|*") as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is not None:
                    yield member.name, stream.read()
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}", hint="delete the file and get it again") from error
