"""Toy pictures that a tiny network learns in seconds, in memory, as MNIST files and as folders."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgekit.data.memory import MemorySource


def draw_pictures(
    num: int, *, num_classes: int = 4, size: int = 28, num_channels: int = 1, seed: int = 0
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Noise with a bright bar whose height tells the class. Mirror images keep their class.

    Returns:
        uint8 [n, size, size, channels], int64 [n].
    """
    generator = np.random.default_rng(seed)
    labels = np.arange(num, dtype=np.int64) % num_classes
    pictures = generator.integers(0, 60, (num, size, size, num_channels)).astype(np.uint8)
    height = size // num_classes
    for picture, label in zip(pictures, labels, strict=True):
        picture[label * height + 1 : (label + 1) * height - 1] += 180
    return pictures, labels


def toy_source(num: int, *, split: str = "train", size: int = 28, seed: int = 0, num_classes: int = 4) -> MemorySource:
    """Pictures of `draw_pictures`, gray, in memory."""
    pictures, labels = draw_pictures(num, size=size, seed=seed, num_classes=num_classes)
    names = tuple(f"bar {index}" for index in range(num_classes))
    return MemorySource(name="toy", split=split, class_names=names, pictures=pictures, labels=labels)


def write_mnist(folder: Path, *, num_train: int, num_test: int) -> None:
    """Write `folder/mnist` with four toy files in MNIST's format; found when $EDGEKIT_DATA names `folder`."""
    target = folder / "mnist"
    target.mkdir(parents=True)
    for prefix, num, seed in (("train", num_train, 1), ("t10k", num_test, 2)):
        pictures, labels = draw_pictures(num, seed=seed)
        _write_idx(target / f"{prefix}-images-idx3-ubyte.gz", pictures[..., 0])
        _write_idx(target / f"{prefix}-labels-idx1-ubyte.gz", labels.astype(np.uint8))


def _write_idx(path: Path, array: npt.NDArray[np.uint8]) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", size) for size in array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=1))


def write_folder(folder: Path, parts: dict[str, int], *, size: int = 40, num_classes: int = 2) -> None:
    """Write `folder/<part>/<class>/<n>.png`, colour, with as many pictures per part as said; "" for no part."""
    for seed, (part, num) in enumerate(parts.items()):
        pictures, labels = draw_pictures(num, num_classes=num_classes, size=size, num_channels=3, seed=seed)
        for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            path = folder / part / f"class_{label}" / f"{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)
