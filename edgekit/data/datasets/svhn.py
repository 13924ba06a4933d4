"""SVHN, cropped digits (Netzer et al. 2011, "Reading Digits in Natural Images"): 99,289 pictures, 32x32."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from edgekit.core.errors import DataError
from edgekit.data.dataset import Dataset, RemoteFile, Split
from edgekit.data.locate import find_files, obtain_file
from edgekit.data.memory import MemorySource

_CLASS_NAMES = tuple("0123456789")
_URL = "http://ufldl.stanford.edu/housenumbers"
_SIZE = 32

_FILES = (
    RemoteFile(
        name="train_32x32.mat",
        url=f"{_URL}/train_32x32.mat",
        sha256="435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
    ),
    RemoteFile(
        name="test_32x32.mat",
        url=f"{_URL}/test_32x32.mat",
        sha256="cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    ),
)


def _find() -> Path | None:
    return find_files("svhn", _FILES)


def _read(split: Split) -> MemorySource:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path = obtain_file("svhn", _FILES[0] if split == "train" else _FILES[1])
    try:
        content = loadmat(path, variable_names=["X", "y"])
        pictures, digits = content["X"], content["y"]
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, MatReadError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}", hint="delete the file and get it again") from error
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[:3] != (_SIZE, _SIZE, 3):
        raise DataError(f"{path}: expected uint8 [32, 32, 3, n], got {pictures.dtype} {list(pictures.shape)}")
    return MemorySource(
        name="svhn",
        split=split,
        class_names=_CLASS_NAMES,
        pictures=np.ascontiguousarray(pictures.transpose(3, 0, 1, 2)),
        labels=digits.reshape(-1).astype(np.int64) % 10,  # the file calls the digit 0 "10"
    )


DATASET = Dataset(
    name="svhn",
    title="SVHN: 99,289 house-number digits in colour, 32x32",
    license="non-commercial use only",
    class_names=_CLASS_NAMES,
    num_channels=3,
    native_size=(_SIZE, _SIZE),
    mean=(0.4377, 0.4438, 0.4728),
    std=(0.1980, 0.2010, 0.1970),
    files=_FILES,
    find=_find,
    read=_read,
)
