"""The IDX format of MNIST and its relatives (LeCun, "The MNIST database of handwritten digits")."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import DataError
from edgekit.data.dataset import RemoteFile
from edgekit.data.locate import obtain_file
from edgekit.data.memory import MemorySource

_UINT8_CODE = 8


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, gzipped or not.

    Raises:
        DataError: The file is truncated, damaged, or no IDX file of bytes.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}", hint="delete the file and get it again") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UINT8_CODE:
        raise DataError(f"{path} is no IDX file of unsigned bytes: it starts with {content[:4].hex() or 'nothing'}")
    num_axes = content[3]
    header_size = 4 + 4 * num_axes
    if len(content) < header_size:
        raise DataError(f"{path}: expected a header of {header_size} bytes, got {len(content)} bytes in all")
    shape = [int(size) for size in np.frombuffer(content, dtype=">u4", count=num_axes, offset=4)]
    expected = header_size + math.prod(shape)
    if len(content) != expected:
        raise DataError(f"{path}: expected {expected} bytes for shape {shape}, got {len(content)}")
    # A copy, because bytes are read-only and torch warns about arrays that are.
    return np.frombuffer(content, dtype=np.uint8, offset=header_size).reshape(shape).copy()


def read_idx_source(
    dataset: str, split: str, class_names: tuple[str, ...], files: tuple[RemoteFile, ...]
) -> MemorySource:
    """Read one split of an MNIST-like dataset, whose `files` are train pictures, train labels, test ones, test labels.

    Raises:
        DataError: A file is missing or damaged, or pictures and labels do not belong together.
    """
    pictures_file, labels_file = files[:2] if split == "train" else files[2:]
    pictures = read_idx(obtain_file(dataset, pictures_file))
    labels = read_idx(obtain_file(dataset, labels_file))
    return MemorySource(
        name=dataset,
        split=split,
        class_names=class_names,
        pictures=pictures[..., np.newaxis],
        labels=labels.astype(np.int64),
    )
