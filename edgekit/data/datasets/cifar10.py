"""CIFAR-10 (Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"): 60,000 pictures, 32x32.

Two forms are read. The original one is the binary version (the "python version" is pickle, which runs code, so it is
not read). The other is a folder or an archive of JPEG files; those are lossy, so the source is then named
`cifar10_jpeg` and its figures are never comparable with published ones.
"""

from __future__ import annotations

from pathlib import Path

from edgekit.data.cifar import (
    CLASS_NAMES,
    MEAN,
    STD,
    find_jpeg_form,
    read_binary_form,
    read_jpeg_form,
)
from edgekit.data.dataset import Dataset, RemoteFile, Split
from edgekit.data.locate import find_file, obtain_file
from edgekit.data.memory import MemorySource

_BINARY = RemoteFile(
    name="cifar-10-binary.tar.gz",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)


def _find() -> Path | None:
    return find_file("cifar10", _BINARY) or find_jpeg_form()


def _read(split: Split) -> MemorySource:
    binary_path = find_file("cifar10", _BINARY)
    if binary_path is None:
        jpeg_path = find_jpeg_form()
        if jpeg_path is not None:
            return read_jpeg_form(jpeg_path, split)
        binary_path = obtain_file("cifar10", _BINARY)
    return read_binary_form(binary_path, split)


DATASET = Dataset(
    name="cifar10",
    title="CIFAR-10: 60,000 colour pictures of animals and vehicles, 32x32",
    license="none stated",
    class_names=CLASS_NAMES,
    num_channels=3,
    native_size=(32, 32),
    mean=MEAN,
    std=STD,
    files=(_BINARY,),
    find=_find,
    read=_read,
)
